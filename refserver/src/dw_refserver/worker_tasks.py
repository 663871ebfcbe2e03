"""Worker plane, workflow tasks: poll, history page, heartbeat, complete, fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from dw_refserver import command_engine, engine
from dw_refserver.commands import check as check_commands
from dw_refserver.engine import Claim, Decision, Refused, Task, iso
from dw_refserver.http import Answer, Call
from dw_refserver.polling import hold
from dw_refserver.protocol import HISTORY_PAGE_DEFAULT, HISTORY_PAGE_MAX, SEQUENCE, last_of, page_token
from dw_refserver.store import history, tasks
from dw_refserver.store.history import Recorded
from dw_refserver.validation import Fields
from dw_refserver.wake import Queue

_RESUME = dict.fromkeys((
    "workflow_wait_kind", "open_wait_id", "resume_source_kind", "resume_source_id", "workflow_update_id",
    "workflow_signal_id", "signal_name", "signal_wait_id", "workflow_command_id", "activity_execution_id",
    "activity_attempt_id", "activity_type", "child_call_id", "child_workflow_run_id", "workflow_sequence",
    "workflow_event_type", "timer_id", "condition_wait_id", "condition_key", "condition_definition_fingerprint",
))  # fmt: skip
"""The resume context: every key present, null unless the task resumes from something."""


async def poll(call: Call) -> Answer:
    """POST /api/worker/workflow-tasks/poll: a task at once, or as soon as there is one, or none in time."""
    fields = Fields(call.body)
    size = fields.whole("history_page_size", 1, HISTORY_PAGE_MAX) or HISTORY_PAGE_DEFAULT
    claimed, status = await hold(call, fields, "workflow", call.node.gate.within(tasks.claim))
    if claimed is None:
        return Answer({"task": None, "poll_status": status})
    events = await history.first_page(call.node.db, claimed, size)
    return Answer({"task": _task_body(claimed, events), "poll_status": status})


_SAME = ("workflow_type", "payload_codec", "run_status", "last_history_sequence", "compatibility", "lease_owner")


def _task_body(row: tasks.Leased, events: Sequence[Recorded]) -> dict[str, Any]:
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
        **(row.payload or {}),
    }


def _page(events: Sequence[Recorded], total: int) -> dict[str, Any]:
    """One page of a history."""
    last = events[-1].sequence if events else total
    token = page_token(last) if last < total else None
    bodies = [event_body(event) for event in events]
    return {"history_events": bodies, "total_history_events": total, "next_history_page_token": token}


_EVENT = ("id", "sequence", "event_type", "workflow_task_id", "workflow_command_id")


def event_body(event: Recorded) -> dict[str, Any]:
    """A history event as workers read it."""
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
    after = last_of(token, SEQUENCE)
    if after is None:
        raise Refused(400, "invalid_page_token", "Invalid history page token.", task_id=claim.task_id)
    task = await tasks.held(call.node.db, call.namespace, claim)
    total = task.last_history_sequence
    events = await history.page(call.node.db, task.run_id, int(after), min(int(after) + size, total))
    return Answer({"task_id": task.id, "workflow_task_attempt": task.attempt_count, **_page(events, total)})


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
    return await _settle(call, claim, lambda task: command_engine.complete(task, commands))


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
    first = [decision.continued.new_task] if decision.continued else []
    for task in (*decision.new_tasks, *first):
        queue = Queue(call.namespace, task.queue, task.task_type)
        call.node.signals.announce_later(queue, task.target_type, task.delay)
    return Answer({"task_id": claim.task_id, "workflow_task_attempt": claim.attempt, **decision.answer})
