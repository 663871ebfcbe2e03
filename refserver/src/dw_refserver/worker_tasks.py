"""Worker plane, workflow tasks: poll, history page, heartbeat, complete, fail."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from sqlalchemy import Row

from dw_refserver import engine
from dw_refserver.commands import check as check_commands
from dw_refserver.engine import Claim, Decision, Refused, Task
from dw_refserver.http import Answer, Call
from dw_refserver.protocol import HISTORY_PAGE_DEFAULT, HISTORY_PAGE_MAX, iso
from dw_refserver.store import history, tasks, workers
from dw_refserver.store.tasks import Poll
from dw_refserver.validation import Fields
from dw_refserver.wake import Closing, Queue, Waiter

_RESUME = dict.fromkeys((
    "workflow_wait_kind", "open_wait_id", "resume_source_kind", "resume_source_id", "workflow_update_id",
    "workflow_signal_id", "signal_name", "signal_wait_id", "workflow_command_id", "activity_execution_id",
    "activity_attempt_id", "activity_type", "child_call_id", "child_workflow_run_id", "workflow_sequence",
    "workflow_event_type", "timer_id", "condition_wait_id", "condition_key", "condition_definition_fingerprint",
))  # fmt: skip
"""The resume context: every key present, null until something other than a start creates tasks."""


async def poll(call: Call) -> Answer:
    """POST /api/worker/workflow-tasks/poll: a task at once, or as soon as there is one, or none in time."""
    asked, hold, page_size = _asked(call)
    with call.node.hub.wait_on(Queue(call.namespace, asked.queue)) as waiter:
        try:
            claimed = await _wait_for_task(call, asked, hold, waiter)
        except Closing:
            claimed = None
        finally:
            call.gone.cancel()
    if claimed is None:
        return Answer({"task": None, "poll_status": "empty"})
    upto = min(claimed.last_history_sequence, page_size)
    events = await history.page(call.node.db, claimed.workflow_run_id, 0, upto)
    return Answer({"task": _task_body(claimed, events), "poll_status": "leased"})


def _asked(call: Call) -> tuple[Poll, float, int]:
    """What is polled for, how long at most (both sides have a say), and how many events a page may hold."""
    fields, settings = Fields(call.body), call.node.settings
    asked = Poll(
        call.namespace, queue=fields.needed("task_queue"), worker_id=fields.needed("worker_id"),
        poll_request_id=fields.text("poll_request_id"), lease=settings.workflow_task_lease,
        build_id=fields.text("build_id"),
    )  # fmt: skip
    wanted = fields.whole("timeout_seconds", 0, 60)
    size = fields.whole("history_page_size", 1, HISTORY_PAGE_MAX) or HISTORY_PAGE_DEFAULT
    fields.done()
    return asked, settings.poll_timeout if wanted is None else min(settings.poll_timeout, wanted), size


async def _wait_for_task(call: Call, asked: Poll, hold: float, waiter: Waiter) -> Row[Any] | None:
    """Claim, else wait for a wake and claim again. Whoever has hung up claims nothing.

    The claim itself holds only for a registered worker on its queue, so the registration is read, and a misfit
    refused, only by a poll that has to wait.
    """
    loop = asyncio.get_running_loop()
    deadline, gone = loop.time() + hold, call.gone
    await asyncio.sleep(0)  # lets `gone` notice a client that left before its turn came
    while not gone.done():
        waiter.rearm()
        claimed = await tasks.claim(call.node.db, asked)
        if claimed is not None:
            return claimed
        waiter.types = frozenset((await _registered(call, asked)).supported_workflow_types)
        if not await call.node.hub.woken(waiter, deadline - loop.time(), gone):
            return None
    return None


async def _registered(call: Call, asked: Poll) -> Row[Any]:
    """The worker's registration, or the refusal that a poll gets before it waits."""
    worker = await workers.find(call.node.db, call.namespace, asked.worker_id)
    if worker is None:
        text = "Worker must be registered before polling. Call POST /worker/register first."
        raise Refused(412, "worker_not_registered", text, worker_id=asked.worker_id)
    if worker.task_queue != asked.queue:
        text = f"Worker [{worker.worker_id}] is registered for task queue [{worker.task_queue}], not [{asked.queue}]."
        both = {"registered_task_queue": worker.task_queue, "requested_task_queue": asked.queue}
        raise Refused(409, "task_queue_mismatch", text, worker_id=worker.worker_id, **both)
    if asked.build_id not in (None, worker.build_id):
        text = f"Worker [{worker.worker_id}] is registered with another build id."
        both = {"registered_build_id": worker.build_id, "requested_build_id": asked.build_id}
        raise Refused(409, "build_id_mismatch", text, worker_id=worker.worker_id, **both)
    return worker


_SAME = ("workflow_type", "payload_codec", "run_status", "last_history_sequence", "compatibility", "lease_owner")


def _task_body(row: Row[Any], events: Sequence[Row[Any]]) -> dict[str, Any]:
    return {
        "task_id": row.id,
        "task_kind": "workflow",
        "workflow_id": row.workflow_instance_id,
        "run_id": row.workflow_run_id,
        "workflow_task_attempt": row.attempt_count,
        **{name: getattr(row, name) for name in _SAME},
        "arguments": {"codec": row.payload_codec, "blob": row.arguments},
        **_page(events, row.last_history_sequence),
        "task_queue": row.queue,
        "connection": None,
        "lease_expires_at": iso(row.lease_expires_at),
        **_RESUME,
    }


def _page(events: Sequence[Row[Any]], total: int) -> dict[str, Any]:
    """One page of a history; the next one's token is base64 of the last sequence, as the published server makes it."""
    last = events[-1].sequence if events else total
    token = base64.b64encode(str(last).encode()).decode() if last < total else None
    bodies = [_event_body(event) for event in events]
    return {"history_events": bodies, "total_history_events": total, "next_history_page_token": token}


_EVENT = ("id", "sequence", "event_type", "workflow_task_id", "workflow_command_id")


def _event_body(event: Row[Any]) -> dict[str, Any]:
    told = {name: getattr(event, name) for name in _EVENT}
    return {**told, "payload": orjson.Fragment(event.payload), "recorded_at": iso(event.recorded_at)}


def _claim_of(call: Call, fields: Fields) -> Claim:
    owner = fields.needed("lease_owner")
    attempt = fields.whole("workflow_task_attempt", 1, 2**31 - 1, required=True)
    return Claim(call.path["task_id"], owner, attempt or 0)


async def history_page(call: Call) -> Answer:
    """POST …/{task}/history: the next page of the run's history, for the worker that holds the task."""
    fields = Fields(call.body)
    claim, token = _claim_of(call, fields), fields.needed("next_history_page_token")
    size = fields.whole("history_page_size", 1, HISTORY_PAGE_MAX) or HISTORY_PAGE_DEFAULT
    fields.done()
    after = _sequence_of(token, claim)
    task = await tasks.held(call.node.db, call.namespace, claim)
    total = task.last_history_sequence
    events = await history.page(call.node.db, task.run_id, after, min(after + size, total))
    return Answer({"task_id": task.id, "workflow_task_attempt": task.attempt_count, **_page(events, total)})


def _sequence_of(token: str, claim: Claim) -> int:
    with contextlib.suppress(ValueError):
        text = base64.b64decode(token, validate=True).decode("ascii")
        if text.isdecimal() and len(text) < 10:
            return int(text)
    raise Refused(400, "invalid_page_token", "Invalid history page token.", task_id=claim.task_id)


async def heartbeat(call: Call) -> Answer:
    """POST …/{task}/heartbeat: extend the lease."""
    fields = Fields(call.body)
    claim = _claim_of(call, fields)
    fields.done()
    renewed = await tasks.renew(call.node.db, call.namespace, claim, call.node.settings.workflow_task_lease)
    task = await tasks.held(call.node.db, call.namespace, claim)
    return Answer({
        "task_id": task.id, "workflow_task_attempt": task.attempt_count, "lease_owner": task.lease_owner,
        "renewed": renewed, "lease_expires_at": iso(task.lease_expires_at), "run_status": task.run_status,
        "task_status": task.status, "reason": None,
    })  # fmt: skip


async def complete(call: Call) -> Answer:
    """POST …/{task}/complete: all commands and the task's closure, or nothing."""
    fields = Fields(call.body)
    claim = _claim_of(call, fields)
    commands = fields.items("commands", required=True)
    fields.done()
    check_commands(commands)
    return await _settle(call, claim, lambda task: engine.complete(task, commands))


async def fail(call: Call) -> Answer:
    """POST …/{task}/fail: the worker could not finish; usually the task comes again."""
    fields = Fields(call.body)
    claim = _claim_of(call, fields)
    failure = fields.mapping("failure", required=True)
    if not isinstance(failure.get("message"), str) or not failure["message"]:
        fields.fail("failure.message", "The failure.message field is required.")
    fields.done()
    return await _settle(call, claim, lambda task: engine.fail(task, failure))


async def _settle(call: Call, claim: Claim, judge: Callable[[Task], Decision]) -> Answer:
    decision = await tasks.settle(call.node.db, call.namespace, claim, judge)
    for task in decision.new_tasks:
        queue = Queue(call.namespace, task.queue, task.task_type)
        call.node.signals.announce_later(queue, task.target_type, task.delay)
    return Answer({"task_id": claim.task_id, "workflow_task_attempt": claim.attempt, **decision.answer})
