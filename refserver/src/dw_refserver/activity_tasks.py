"""Worker plane, activity tasks: poll, heartbeat, complete, fail."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from dw_refserver import activity_engine as engine
from dw_refserver.activity_engine import Activity, Claim, Outcome
from dw_refserver.engine import iso
from dw_refserver.http import Answer, Call
from dw_refserver.polling import hold
from dw_refserver.store import activities
from dw_refserver.validation import Fields, is_blob, is_envelope
from dw_refserver.wake import Queue

_KINDS = ("application", "timeout", "cancellation", "malformed_output", "handler_crash", "decode_failure",
          "unsupported_payload")  # fmt: skip


async def poll(call: Call) -> Answer:
    """POST /api/worker/activity-tasks/poll: an activity at once, or as soon as there is one, or none in time."""
    fields = Fields(call.body)
    claimed, status = await hold(call, fields, "activity", call.node.gate.within(activities.claim))
    if claimed is None:
        return Answer({"task": None, "poll_status": status})
    return Answer({"task": _task_body(call, claimed), "poll_status": status})


def _task_body(call: Call, activity: Activity) -> dict[str, Any]:
    """What the worker needs; what is empty is left out."""
    body = {
        "task_id": activity.task_id,
        "workflow_id": activity.workflow_id,
        "run_id": activity.run_id,
        "activity_execution_id": activity.execution_id,
        "activity_attempt_id": activity.current_attempt_id,
        "idempotency_key": activity.execution_id,
        "attempt_number": activity.attempt_count,
        "activity_type": activity.activity_type,
        "payload_codec": activity.payload_codec,
        "arguments": activity.arguments and {"codec": activity.payload_codec, "blob": activity.arguments},
        "retry_policy": activity.retry_policy,
        "task_queue": activity.queue,
        "lease_owner": call.body["worker_id"],
        "lease_expires_at": iso(activity.now + timedelta(seconds=call.node.settings.activity_task_lease)),
        "deadlines": {name: iso(at) for name, at in activity.deadlines.given.items()},
    }
    return {name: value for name, value in body.items() if value is not None}


def _claim_of(call: Call, fields: Fields) -> Claim:
    return Claim(call.path["task_id"], fields.needed("activity_attempt_id"), fields.needed("lease_owner"))


async def heartbeat(call: Call) -> Answer:
    """POST …/{task}/heartbeat: extend the lease, and learn whether to go on."""
    fields = Fields(call.body)
    claim = _claim_of(call, fields)
    for name in ("current", "total"):
        if not isinstance(call.body.get(name), int | float | None):
            fields.fail(name, f"The {name} field must be a number.")
    fields.done()
    told = await activities.heartbeat(call.node.db, call.namespace, claim, call.node.settings.activity_task_lease)
    fine = told["reason"] is None
    moments = {name: iso(told[name]) for name in ("lease_expires_at", "last_heartbeat_at", "run_closed_at")}
    return Answer({
        "task_id": claim.task_id, "activity_attempt_id": claim.attempt_id, "lease_owner": claim.lease_owner,
        "cancel_requested": not fine, "can_continue": fine, "heartbeat_recorded": fine, **told, **moments,
    })  # fmt: skip


async def complete(call: Call) -> Answer:
    """POST …/{task}/complete: the activity's result, and the workflow task that follows."""
    fields = Fields(call.body)
    claim, result = _claim_of(call, fields), call.body.get("result")
    if not (result is None or is_blob(result) or is_envelope(result)):
        fields.fail("result", "The result must be null, a payload blob, or an envelope with the codec avro.")
    fields.done()
    return await _settle(call, claim, "completed", lambda activity: engine.completed(activity, result))


async def fail(call: Call) -> Answer:
    """POST …/{task}/fail: the attempt failed; another follows if the policy has one left."""
    fields = Fields(call.body)
    claim, failure = _claim_of(call, fields), fields.mapping("failure", required=True)
    if not isinstance(failure.get("message"), str) or not failure["message"]:
        fields.fail("failure.message", "The failure.message field is required.")
    for name in ("type", "class"):
        if not isinstance(failure.get(name), str | None):
            fields.fail(f"failure.{name}", f"The failure.{name} field must be a string.")
    if failure.get("kind") not in (None, *_KINDS):
        fields.fail("failure.kind", "The selected failure.kind is invalid.")
    fields.done()
    return await _settle(call, claim, "failed", lambda activity: engine.failed(activity, failure))


async def _settle(call: Call, claim: Claim, outcome: str, judge: Callable[[Activity], Outcome]) -> Answer:
    done = await activities.settle(call.node.db, call.namespace, claim, outcome, judge)
    for task in done.new_tasks:
        queue = Queue(call.namespace, task.queue, task.task_type)
        call.node.signals.announce_later(queue, task.target_type, task.delay)
    told = {"task_id": claim.task_id, "activity_attempt_id": claim.attempt_id}
    return Answer({**told, **(done.answer or {})})
