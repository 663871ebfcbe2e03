"""A poll of any kind: claim at once, or as soon as there is something, or give up in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from sqlalchemy import Row

from dw_refserver.engine import Refused
from dw_refserver.http import Call
from dw_refserver.store import tasks
from dw_refserver.store.database import Database
from dw_refserver.store.tasks import Poll
from dw_refserver.validation import Fields
from dw_refserver.wake import Closing, NotNow, Queue, Waiter

T = TypeVar("T")

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
"""Seconds between two claims of a poll whose task may be in another's hands at the moment."""


async def hold(
    call: Call, fields: Fields, kind: str, claim: Callable[[Database, Poll], Awaitable[T | None]]
) -> tuple[T | None, str]:
    """What `claim` gives to this poll, held for as long as both sides allow, and the poll's status; refuses what is
    wrong in its fields."""
    asked, seconds = _asked(call, fields, kind)
    with call.node.hub.wait_on(Queue(call.namespace, asked.queue, kind)) as waiter:
        try:
            return await _wait_for_task(call, asked, seconds, waiter, claim)
        except Closing:
            return None, "empty"
        finally:
            call.gone.cancel()


def _asked(call: Call, fields: Fields, kind: str) -> tuple[Poll, float]:
    """What is polled for, and how long at most (both sides have a say)."""
    settings = call.node.settings
    leases = {"workflow": settings.workflow_task_lease, "activity": settings.activity_task_lease}
    lease = leases.get(kind, settings.queries.lease)
    asked = Poll(
        call.namespace, queue=fields.needed("task_queue"), worker_id=fields.needed("worker_id"),
        poll_request_id=fields.text("poll_request_id"), lease=lease, build_id=fields.text("build_id"), task_type=kind,
    )  # fmt: skip
    wanted = fields.whole("timeout_seconds", 0, 60)
    fields.done()
    return asked, settings.poll_timeout if wanted is None else min(settings.poll_timeout, wanted)


async def _wait_for_task(
    call: Call, asked: Poll, seconds: float, waiter: Waiter, claim: Callable[[Database, Poll], Awaitable[T | None]]
) -> tuple[T | None, str]:
    """Claim, else wait for a wake and claim again. Whoever has hung up claims nothing.

    The claim itself holds only for a registered worker on its queue, so the registration is read, and a misfit
    refused, only by a poll that has to wait. A poll under a request id may have been sent before: where that one may
    be claiming at this moment, this one doesn't wait for a wake, which would be the other's; and it claims once more
    when its time is up, as the other may have got its task meanwhile.
    """
    hub, loop, status = call.node.hub, asyncio.get_running_loop(), "empty"
    deadline, gone, pause = loop.time() + seconds, call.gone, _SHORTEST_PAUSE
    await asyncio.sleep(0)  # lets `gone` notice a client that left before its turn came
    while not gone.done():
        waiter.rearm()
        claimed, status = await _claimed(call, asked, claim)
        if claimed is not None:
            return claimed, status
        worker = await _registered(call, asked)
        waiter.types = frozenset(worker.types)
        left, again = deadline - loop.time(), worker.under_way and status == "empty"
        woken = await hub.woken(waiter, min(left, pause) if again else left, gone)
        if not woken and (hub.closing or loop.time() >= deadline):
            break
        pause = min(2 * pause, _LONGEST_PAUSE) if again else _SHORTEST_PAUSE
    repeated = asked.poll_request_id is not None and not gone.done() and not hub.closing
    return await _claimed(call, asked, claim) if repeated else (None, status)


async def _claimed(
    call: Call, asked: Poll, claim: Callable[[Database, Poll], Awaitable[T | None]]
) -> tuple[T | None, str]:
    """What `claim` gives right now, and the poll's status with that."""
    try:
        claimed = await claim(call.node.db, asked)
    except NotNow as withheld:
        return None, str(withheld)
    return claimed, "empty" if claimed is None else "leased"


async def _registered(call: Call, asked: Poll) -> Row[Any]:
    """The worker's registration, or the refusal that a poll gets before it waits."""
    worker = await tasks.who_waits(call.node.db, asked)
    if worker is None:
        text = "Worker must be registered before polling. Call POST /worker/register first."
        raise Refused(412, "worker_not_registered", text, worker_id=asked.worker_id)
    wrong = misfit(worker, asked)
    if wrong is not None:
        raise wrong
    return worker


def misfit(worker: Row[Any], asked: Poll) -> Refused | None:
    """Why a registered worker may not ask for this; None if it may."""
    if worker.task_queue != asked.queue:
        text = f"Worker [{worker.worker_id}] is registered for task queue [{worker.task_queue}], not [{asked.queue}]."
        both = {"registered_task_queue": worker.task_queue, "requested_task_queue": asked.queue}
        return Refused(409, "task_queue_mismatch", text, worker_id=worker.worker_id, **both)
    if asked.build_id not in (None, worker.build_id):
        text = f"Worker [{worker.worker_id}] is registered with another build id."
        both = {"registered_build_id": worker.build_id, "requested_build_id": asked.build_id}
        return Refused(409, "build_id_mismatch", text, worker_id=worker.worker_id, **both)
    return None
