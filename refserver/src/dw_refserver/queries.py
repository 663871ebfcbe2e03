"""Queries: what a caller asks of a run, and the worker that answers. No history, no database row."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from dw_refserver.broker import ATTEMPT, OPEN, RESULT, TASK, BrokerLostError, Query, QueueFullError, refusal
from dw_refserver.engine import Refused, iso
from dw_refserver.http import Answer, Call
from dw_refserver.polling import hold, misfit
from dw_refserver.protocol import no_run, no_workflow
from dw_refserver.store import history, workers, workflows
from dw_refserver.store.database import Database
from dw_refserver.store.tasks import Poll
from dw_refserver.ulid import new_ulid
from dw_refserver.validation import Fields, arguments_of, is_envelope
from dw_refserver.wake import Closing, NotNow, Queue
from dw_refserver.worker_tasks import event_body

_WHOLE = 2**31 - 1
_REASON = r"[a-z0-9_]{1,64}"
_UNAVAILABLE = "The query task queue is unavailable."
_NO_WORKER = "No active worker of task queue [{}] can answer queries of workflow type [{}]."


async def ask(call: Call) -> Answer:
    """POST /api/workflows/{id}/query/{name}, also below a run: a worker's answer, waited for."""
    fields = Fields(call.body)
    arguments = None if call.body.get("input") is None else arguments_of(fields)
    fields.done()
    run = await _run(call)
    name, kind = call.path["operation_name"], run.workflow_type
    about = {
        "workflow_id": run.workflow_instance_id, "run_id": run.id, "query_name": name, "result": None,
        "target_scope": "run" if "run_id" in call.path else "instance",
    }  # fmt: skip
    stale_after = call.node.settings.stale_after
    if not await workers.any_able(call.node.db, call.namespace, run.queue, kind, stale_after):
        raise Refused(409, "query_worker_unavailable", _NO_WORKER.format(run.queue, kind), **about)
    task = Query(new_ulid().upper(), call.namespace, run.queue, run.workflow_instance_id, run.id, kind, name, arguments)
    try:
        return told(about, *await _answered(call, task))
    except QueueFullError:
        text = f"Task queue [{run.queue}] has as many pending queries as it takes."
        raise Refused(429, "query_task_queue_full", text, **about) from None
    except (BrokerLostError, Closing):
        raise Refused(503, "query_task_queue_unavailable", _UNAVAILABLE, **about) from None


async def _run(call: Call) -> Row[Any]:
    """The run that is asked: the named one, or else the current one."""
    workflow_id, run_id = call.path["workflow_id"], call.path.get("run_id")
    if run_id is None:
        run, missing = await workflows.current_run(call.node.db, workflow_id), no_workflow(workflow_id)
    else:
        run = await workflows.one_run(call.node.db, workflow_id, run_id)
        missing = no_run(workflow_id, run_id)
    if run is None or run.namespace != call.namespace:
        raise missing
    return run


async def _answered(call: Call, task: Query) -> tuple[str, Any]:
    """Offer the task and wait until it is closed; it never outlives its caller, however that one leaves."""
    node = call.node
    with node.hub.wait_on(Queue(call.namespace, task.id, RESULT)) as waiter:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + node.settings.queries.timeout
        try:
            await node.broker.offer(task)
            node.signals.announce(Queue(call.namespace, task.queue, TASK), task.workflow_type)
            while await node.hub.woken(waiter, deadline - loop.time(), call.gone):
                waiter.rearm()
                status, result = await node.broker.outcome(task)
                if status not in OPEN:
                    return status, result
        except Exception:
            await _given_up(call, task)
            raise
        finally:
            call.gone.cancel()
        if not await node.broker.abandon(task):
            return await node.broker.outcome(task)
        if node.hub.closing:
            raise Closing
        return "timed_out", None


async def _given_up(call: Call, task: Query) -> None:
    """Free the task if Redis is there; if it isn't, the task ends by itself when its caller's time is over."""
    try:
        await call.node.broker.abandon(task)
    except BrokerLostError:
        return


def told(about: Mapping[str, Any], status: str, result: Any) -> Answer:
    """What the caller hears of a closed task."""
    if status == "completed":
        return Answer({**about, **result, "reason": None})
    if status == "failed":
        code = 404 if result["reason"] == "rejected_unknown_query" else 409
        raise Refused(code, result["reason"], result["message"], **about)
    text = "Timed out waiting for a worker to execute the workflow query."
    raise Refused(504, "query_worker_timeout", text, **about)


async def poll(call: Call) -> Answer:
    """POST /api/worker/query-tasks/poll: a query at once, or as soon as there is one, or none in time."""
    claimed, status = await hold(call, Fields(call.body), TASK, lambda db, asked: _claim(call, db, asked))
    return Answer({"task": claimed, "poll_status": status})


async def _claim(call: Call, db: Database, asked: Poll) -> dict[str, Any] | None:
    worker = await workers.find(db, asked.namespace, asked.worker_id)
    if worker is None or misfit(worker, asked):
        return None
    try:
        while claimed := await call.node.broker.claim(asked, worker.supported_workflow_types):
            task, lease_expires_at = claimed
            run = await workflows.one_run(db, task.workflow_id, task.run_id)
            if run is not None:
                return await _task_body(db, task, run, asked.worker_id, lease_expires_at)
            text = "The workflow run is no longer there."
            await _close(call, task.id, "failed", {"reason": "query_workflow_state_unavailable", "message": text})
    except BrokerLostError:
        raise NotNow("unavailable") from None
    return None


async def _task_body(
    db: Database, task: Query, run: Row[Any], worker_id: str, lease_expires_at: datetime
) -> dict[str, Any]:
    """All that the worker needs to answer, the whole history included."""
    events = await history.page(db, run.id, 0, _WHOLE)
    return {
        "query_task_id": task.id,
        "query_task_attempt": ATTEMPT,
        "workflow_id": task.workflow_id,
        "run_id": run.id,
        "workflow_type": run.workflow_type,
        "query_name": task.name,
        "payload_codec": run.payload_codec,
        "workflow_arguments": {"codec": run.payload_codec, "blob": run.arguments},
        "query_arguments": task.arguments and {"codec": "avro", "blob": task.arguments},
        "run_status": run.status,
        "last_history_sequence": events[-1].sequence if events else 0,
        "history_events": [event_body(event) for event in events],
        "task_queue": task.queue,
        "lease_owner": worker_id,
        "lease_expires_at": iso(lease_expires_at),
    }


async def complete(call: Call) -> Answer:
    """POST …/{task}/complete: the answer."""
    fields = Fields(call.body)
    envelope = call.body.get("result_envelope")
    if not (envelope is None or is_envelope(envelope)):
        fields.fail("result_envelope", "The result_envelope must carry the codec avro and a base64 blob.")
    return await _settle(call, fields, "completed", {"result": call.body.get("result"), "result_envelope": envelope})


async def fail(call: Call) -> Answer:
    """POST …/{task}/fail: why there is no answer."""
    fields = Fields(call.body)
    failure = Fields(fields.mapping("failure", required=True))
    message, reason = failure.body.get("message"), failure.text("reason", most=64, pattern=_REASON)
    if not isinstance(message, str) or not message:
        failure.fail("message", "The failure.message field is required.")
    fields.adopt("failure", failure)
    return await _settle(call, fields, "failed", {"reason": reason or "query_rejected", "message": message})


async def _settle(call: Call, fields: Fields, outcome: str, result: Mapping[str, Any]) -> Answer:
    """Close the task for the worker that holds it; refuse everybody else."""
    task_id, owner = call.path["query_task_id"], fields.needed("lease_owner")
    attempt = fields.whole("query_task_attempt", 1, _WHOLE, required=True) or 0
    fields.done()
    broker, about = call.node.broker, {"query_task_id": task_id}
    try:
        refused = refusal(task := await broker.state(task_id), call.namespace, owner, attempt)
        if not refused and not await _close(call, task_id, outcome, result):
            refused = refusal(task := await broker.state(task_id), call.namespace, owner, attempt)
    except BrokerLostError:
        raise Refused(503, "query_task_queue_unavailable", _UNAVAILABLE, **about) from None
    if not refused:
        return Answer({**about, "query_task_attempt": attempt, "outcome": outcome, "status": 200})
    reason, text = refused
    code = 404 if reason == "query_task_not_found" else 409
    held = {"lease_owner": task.owner} if task and reason == "lease_owner_mismatch" else {}
    return Answer({**about, "outcome": "rejected", "reason": reason, "error": text, "status": code, **held}, code)


async def _close(call: Call, task_id: str, status: str, result: Mapping[str, Any]) -> bool:
    closed = await call.node.broker.settle(task_id, status, result)
    if closed:
        call.node.signals.announce(Queue(call.namespace, task_id, RESULT), None)
    return closed
