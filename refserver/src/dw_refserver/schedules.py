"""Control plane, schedules: create, list, describe, delete, pause, resume, trigger, history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from sqlalchemy import Row

from dw_refserver import schedule_engine as engine
from dw_refserver import schedule_spec
from dw_refserver.engine import Refused, iso
from dw_refserver.http import Answer, Call
from dw_refserver.protocol import last_of, page_token
from dw_refserver.schedule_engine import OVERLAP_POLICIES, Change, Schedule
from dw_refserver.store import schedules
from dw_refserver.ulid import new_ulid
from dw_refserver.validation import Fields, parameters, work_of
from dw_refserver.wake import Queue

_ID = "[a-zA-Z0-9._:-]+"
_MOST_RUNS = 2**31 - 1
_UNSUPPORTED_FILTERS = ("status", "workflow_type", "query")


async def create(call: Call) -> Answer:
    """POST /api/schedules: a new schedule, active or paused."""
    fields = Fields(call.body)
    schedule_id = fields.text("schedule_id", most=128, pattern=_ID) or new_ulid()
    paused = call.body.get("paused") or False
    if not isinstance(paused, bool):
        fields.fail("paused", "The paused field must be true or false.")
    wanted = _wanted(call, fields)
    fields.done()
    await schedules.create(
        call.node.db, call.namespace, schedule_id, lambda blank: engine.created(blank, wanted, paused=paused)
    )
    return Answer({"schedule_id": schedule_id, "outcome": "created"}, 201)


def _wanted(call: Call, fields: Fields) -> dict[str, Any]:
    """The columns that a create sets, every field checked."""
    if call.body.get("search_attributes"):
        fields.fail("search_attributes", "The search_attributes field is not supported by this server.")
    memo, most = fields.mapping("memo") or None, call.node.settings.max_memo_bytes
    if memo and len(orjson.dumps(memo)) > most:
        raise Refused(422, "memo_too_large", f"The memo field must not be greater than {most} bytes.")
    return {
        "spec": _spec(fields),
        "action": _action(fields),
        "overlap_policy": _policy(fields) or "skip",
        "jitter_seconds": fields.whole("jitter_seconds", 0, 3600) or 0,
        "max_runs": fields.whole("max_runs", 1, _MOST_RUNS),
        "memo": memo,
        "note": fields.prose("note"),
    }


def _spec(fields: Fields) -> dict[str, Any]:
    """The spec as it was given, with its timezone."""
    given = fields.mapping("spec", required=True)
    if given:
        inner = Fields(given)
        schedule_spec.read(inner)
        fields.adopt("spec", inner)
    return {"timezone": "UTC"} | {name: value for name, value in given.items() if value}


def _action(fields: Fields) -> dict[str, Any]:
    """The action as it was given."""
    given = fields.mapping("action", required=True)
    if given:
        inner = Fields(given)
        inner.only("workflow_type", "task_queue", "input", "execution_timeout_seconds", "run_timeout_seconds")
        work_of(inner)
        fields.adopt("action", inner)
    return {name: value for name, value in given.items() if value is not None}


def _policy(fields: Fields) -> str | None:
    policy = fields.text("overlap_policy")
    if policy not in (None, *OVERLAP_POLICIES):
        fields.fail("overlap_policy", f"This server takes the overlap policies {' and '.join(OVERLAP_POLICIES)} only.")
    return policy


async def listing(call: Call) -> Answer:
    """GET /api/schedules: a page of them, in the order of their ids."""
    for name in _UNSUPPORTED_FILTERS:
        if name in call.request.query_params:
            text = f"The {name} filter is not supported by this server."
            raise Refused(422, "unsupported_schedule_list_filter", text, field=name)
    fields = parameters(call.request.query_params, "page_size")
    size, token = fields.whole("page_size", 1, 200) or 50, fields.text("next_page_token")
    fields.done()
    after = "" if token is None else last_of(token, _ID)
    if after is None:
        text = "The next_page_token is not one that this server has given."
        raise Refused(400, "malformed_schedule_page_token", text, field="next_page_token")
    rows = await schedules.page(call.node.db, call.namespace, after, size + 1)
    token = page_token(rows[size - 1].schedule_id) if len(rows) > size else None
    bodies = [_summary(row) for row in rows[:size]]
    return Answer({"schedules": bodies, "schedule_count": len(bodies), "next_page_token": token})


def _summary(row: Row[Any]) -> dict[str, Any]:
    """What the list tells of a schedule: the published server's fields and the newest protocol's, but for the action:
    inputs can be large, and a page must not be."""
    return {
        "schedule_id": row.schedule_id,
        "namespace": row.namespace,
        "workflow_type": (row.action or {}).get("workflow_type"),
        "status": row.status,
        "paused": row.status == "paused",
        "spec": row.spec,
        "overlap_policy": row.overlap_policy,
        "note": row.note,
        "fires_count": row.fires_count,
        "next_fire": iso(row.next_fire_at),
        "last_fire": iso(row.last_fired_at),
        **{name: iso(getattr(row, name)) for name in ("next_fire_at", "last_fired_at", "created_at", "updated_at")},
        "search_attributes": None,
    }


_INFO = ("fires_count", "failures_count", "skipped_trigger_count", "last_skip_reason")
_DETAIL = (
    "action",
    "memo",
    "jitter_seconds",
    "max_runs",
    "remaining_actions",
    "latest_workflow_instance_id",
    "failures_count",
)


async def describe(call: Call) -> Answer:
    """GET /api/schedules/{id}: nested state and info, and the same at the top, as newer clients read it."""
    row = await schedules.find(call.node.db, call.namespace, call.path["schedule_id"])
    if row is None or row.status == "deleted":
        raise engine.missing(call.namespace, call.path["schedule_id"])
    told, info = _summary(row), {name: getattr(row, name) for name in _INFO}
    info |= {name: told[name] for name in ("next_fire", "last_fire")}
    info |= {"recent_actions": row.recent_actions or [], "buffered_actions": []}
    info |= {"last_skipped_at": iso(row.last_skipped_at)}
    state = {name: told[name] for name in ("status", "paused", "note")}
    detail = {name: getattr(row, name) for name in _DETAIL} | {"paused_at": iso(row.paused_at)}
    return Answer({**told, **detail, "state": state, "info": info})


async def delete(call: Call) -> Answer:
    """DELETE /api/schedules/{id}: no more fires; the id is free again, and the history stays for a while."""
    return await _changed(call, engine.deleted, "deleted")


async def pause(call: Call) -> Answer:
    """POST …/{id}/pause: no fires until it is resumed."""
    note = _note(call)
    return await _changed(call, lambda schedule: engine.paused(schedule, note), "paused")


async def resume(call: Call) -> Answer:
    """POST …/{id}/resume: fire again, from the next occurrence on."""
    note = _note(call)
    return await _changed(call, lambda schedule: engine.resumed(schedule, note), "resumed")


def _note(call: Call) -> str | None:
    fields = Fields(call.body)
    note = fields.prose("note")
    fields.done()
    return note


async def _changed(call: Call, decide: Callable[[Schedule], Change], outcome: str) -> Answer:
    schedule_id = call.path["schedule_id"]
    try:
        await schedules.change(call.node.db, call.namespace, schedule_id, decide)
    except ValueError as error:
        raise Refused(409, "schedule_unreadable", f"Schedule [{schedule_id}] can't be read: {error}.") from error
    return Answer({"schedule_id": schedule_id, "outcome": outcome})


async def trigger(call: Call) -> Answer:
    """POST …/{id}/trigger: fire now, whatever the spec says; a schedule's own occurrences stay as they are."""
    fields, schedule_id = Fields(call.body), call.path["schedule_id"]
    policy = _policy(fields)
    fields.done()
    try:
        decided = await schedules.change(
            call.node.db, call.namespace, schedule_id, lambda schedule: engine.fire(schedule, policy)
        )
    except ValueError as error:
        raise Refused(500, "trigger_failed", f"Schedule [{schedule_id}] can't be triggered: {error}.") from error
    if decided.start is None:
        return Answer({"schedule_id": schedule_id, "outcome": "skipped", "reason": decided.reason})
    call.node.signals.announce(Queue(call.namespace, decided.start.queue), decided.start.workflow_type)
    ids = {"workflow_id": decided.start.workflow_id, "run_id": decided.run_id}
    return Answer({"schedule_id": schedule_id, "outcome": "triggered", **ids})


_SAME = ("id", "sequence", "event_type", "payload", "workflow_instance_id", "workflow_run_id")


async def history(call: Call) -> Answer:
    """GET …/{id}/history: what has happened to it, in order; a deleted schedule's too, until it is pruned."""
    fields = parameters(call.request.query_params, "limit", "after_sequence")
    limit, after = fields.whole("limit", 1, 500) or 100, fields.body.get("after_sequence", 0)
    fields.done()
    if not isinstance(after, int) or not 0 <= after <= _MOST_RUNS:
        raise Refused(422, "invalid_after_sequence", "The after_sequence parameter must be a whole number.")
    row = await schedules.find(call.node.db, call.namespace, call.path["schedule_id"])
    if row is None:
        raise engine.missing(call.namespace, call.path["schedule_id"])
    found = await schedules.history(call.node.db, row.id, after, limit + 1)
    events, more = found[:limit], len(found) > limit
    bodies = [{name: getattr(event, name) for name in _SAME} | {"recorded_at": iso(event.recorded_at)}
              for event in events]  # fmt: skip
    return Answer({
        "schedule_id": row.schedule_id, "namespace": row.namespace, "events": bodies,
        "next_cursor": events[-1].sequence if more else None, "has_more": more,
    })  # fmt: skip
