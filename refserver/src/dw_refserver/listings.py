"""Control plane, in pages: the runs of a namespace, those of one workflow, the history of one of them."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from sqlalchemy import Row

from dw_refserver.control import brief, standing
from dw_refserver.engine import BUCKETS, iso
from dw_refserver.http import Answer, Call
from dw_refserver.protocol import SEQUENCE, no_run, no_workflow, page_token
from dw_refserver.store import history, workflows
from dw_refserver.store.history import Recorded
from dw_refserver.store.workflows import Wanted
from dw_refserver.validation import parameters
from dw_refserver.wake import Closing, Queue

_RUN_ID = "[0-9a-z]{26}"
_YES, _NO = ("1", "true"), ("0", "false")


async def list_workflows(call: Call) -> Answer:
    """GET /api/workflows: one item per run, the newest started first; `workflow_count` is the page's."""
    fields = parameters(call.request.query_params, "page_size")
    size = fields.whole("page_size", 1, 200) or 50
    bucket = fields.choice("status", list(BUCKETS))
    wanted = Wanted(
        call.namespace, workflow_type=fields.text("workflow_type"), statuses=BUCKETS.get(bucket or "", ()),
        part=fields.text("query"), before=fields.token("next_page_token", _RUN_ID),
    )  # fmt: skip
    fields.done()
    found = await workflows.newest(call.node.db, wanted, size + 1)
    items = [_item(run) for run in found[:size]]
    token = page_token(items[-1]["run_id"]) if len(found) > size else None
    return Answer({"workflows": items, "workflow_count": len(items), "next_page_token": token})


def _item(run: Row[Any]) -> dict[str, Any]:
    own = {"workflow_id": run.workflow_instance_id, "compatibility": run.compatibility, "search_attributes": []}
    return {**brief(run), **standing(run), **own}


async def list_runs(call: Call) -> Answer:
    """GET /api/workflows/{id}/runs: oldest first."""
    workflow_id = call.path["workflow_id"]
    found = await workflows.all_runs(call.node.db, call.namespace, workflow_id)
    if not found:
        raise no_workflow(workflow_id)
    runs = [{**brief(run), "run_number": run.run_number} for run in found]
    return Answer({"workflow_id": workflow_id, "run_count": len(runs), "runs": runs})


async def history_page(call: Call) -> Answer:
    """GET …/{run}/history: its events in order, from the one after the token's. With `wait_new_event` it is held until
    there is one, or the run is closed, or time is up."""
    fields = parameters(call.request.query_params, "page_size")
    size = fields.whole("page_size", 1, 1000) or 100
    after = int(fields.token("next_page_token", SEQUENCE) or 0)
    waits = fields.choice("wait_new_event", (*_YES, *_NO)) in _YES
    fields.done()
    total = await _grown(call, after) if waits else (await _length(call))[0]
    events = await history.page(call.node.db, call.path["run_id"], after, min(after + size, total))
    token = page_token(events[-1].sequence) if events and events[-1].sequence < total else None
    return Answer({**call.path, "events": [_event(event) for event in events], "next_page_token": token})


async def _length(call: Call) -> tuple[int, bool]:
    """How many events the run has, and whether more may come."""
    found = await workflows.history_length(call.node.db, call.namespace, **call.path)
    if found is None:
        raise no_run(**call.path)
    return found


async def _grown(call: Call, after: int) -> int:
    """The length once it exceeds `after`; nobody signals it, so it is read again once per interval."""
    hub, now = call.node.hub, asyncio.get_running_loop().time
    until = now() + call.node.settings.poll_timeout
    with hub.wait_on(Queue(call.namespace, call.path["run_id"], "history")) as waiter:
        try:
            while True:
                total, more = await _length(call)
                left = min(until - now(), call.node.settings.reprobe_interval)
                if total > after or not more or left <= 0 or hub.closing or call.gone.done():
                    return total
                await hub.woken(waiter, left, call.gone)
        except Closing:
            return after
        finally:
            call.gone.cancel()


def _event(event: Recorded) -> dict[str, Any]:
    told = {"sequence": event.sequence, "event_type": event.event_type, "timestamp": iso(event.recorded_at)}
    return {**told, "payload": orjson.Fragment(event.payload)}
