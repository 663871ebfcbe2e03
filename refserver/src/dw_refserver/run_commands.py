"""Control plane, commands on a run: signal, cancel, terminate."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from dw_refserver import run_engine
from dw_refserver.engine import NewTask
from dw_refserver.http import Answer, Call
from dw_refserver.protocol import no_run, no_workflow
from dw_refserver.run_engine import Change, Left, Run, Stop
from dw_refserver.store import runs
from dw_refserver.store.runs import Ask, Judge
from dw_refserver.validation import Fields, arguments_of
from dw_refserver.wake import Queue

_LONGEST_REASON, _LONGEST_NAME = 1000, 256


async def signal(call: Call) -> Answer:
    """POST /api/workflows/{id}/signal/{name}: received, in order, once per request id."""
    fields, name = Fields(call.body), call.path["signal_name"]
    if len(name.encode()) > _LONGEST_NAME:
        fields.fail("signal_name", f"The signal name field must not be greater than {_LONGEST_NAME} bytes.")
    arguments, request_id = arguments_of(fields), fields.text("request_id")
    fields.done()

    def judge(run: Run, _: Sequence[Left]) -> tuple[Change, Mapping[str, Any]]:
        change = run_engine.signal(run, name, arguments, "avro")
        return change, _accepted(call, run, change, "signal_received")

    return await _carry_out(call, _ask(call, request_id, "signal", name, arguments), judge, 202)


async def cancel(call: Call) -> Answer:
    """POST /api/workflows/{id}/cancel: ends the run at once."""
    return await _stop(call, run_engine.CANCEL)


async def terminate(call: Call) -> Answer:
    """POST /api/workflows/{id}/terminate: ends the run at once."""
    return await _stop(call, run_engine.TERMINATE)


async def _stop(call: Call, how: Stop) -> Answer:
    fields = Fields(call.body)
    reason, request_id = fields.text("reason", most=_LONGEST_REASON), fields.text("request_id")
    fields.done()

    def judge(run: Run, left: Sequence[Left]) -> tuple[Change, Mapping[str, Any]]:
        change = run_engine.stop(run, how, reason, left)
        return change, _accepted(call, run, change, how.status) | {"reason": reason}

    return await _carry_out(call, _ask(call, request_id, how.status, reason, stops=True), judge, 200)


def _ask(call: Call, request_id: str | None, *asked: Any, stops: bool = False) -> Ask:
    run_id = call.path.get("run_id")
    fingerprint = hashlib.sha256(orjson.dumps([run_id, *asked])).hexdigest()
    return Ask(call.namespace, call.path["workflow_id"], run_id, request_id, fingerprint, stops)


async def _carry_out(call: Call, ask: Ask, judge: Judge, status: int) -> Answer:
    """The receipt of the command, or of the one that was taken before under its request id."""
    try:
        change, receipt = await runs.command(call.node.db, ask, judge)
    except runs.NoSuchRunError:
        missing = no_run(ask.workflow_id, ask.run_id) if ask.run_id else no_workflow(ask.workflow_id)
        raise missing from None
    except runs.RejectedError as rejected:
        return Answer(_rejected(call, rejected.run, rejected.reason), 409)
    _announce(call, change.new_tasks if change else ())
    return Answer(receipt, status)


def _announce(call: Call, new_tasks: Sequence[NewTask]) -> None:
    for task in new_tasks:
        call.node.signals.announce(Queue(call.namespace, task.queue, task.task_type), task.target_type)


def _accepted(call: Call, run: Run, change: Change, outcome: str) -> dict[str, Any]:
    numbered = {"command_id": change.command_id, "command_sequence": run.last_command + 1}
    return _receipt(call, run) | numbered | {"outcome": outcome, "command_status": "accepted"}


def _rejected(call: Call, run: Run, reason: str) -> dict[str, Any]:
    """What is rejected leaves nothing behind, so it has neither id nor number."""
    outcome = "rejected_not_active" if reason == "run_not_active" else "rejected_not_current"
    why = {"reason": reason, "rejection_reason": reason}
    return _receipt(call, run) | why | {"outcome": outcome, "command_status": "rejected"}


def _receipt(call: Call, run: Run) -> dict[str, Any]:
    asked = call.path.get("run_id")
    return {
        "workflow_id": run.workflow_id, "run_id": run.id, "requested_run_id": asked, "resolved_run_id": run.id,
        "command_id": None, "command_sequence": None, "target_scope": "run" if asked else "instance",
        "workflow_type": run.workflow_type, "command_source": "control_plane", "reason": None,
        "rejection_reason": None, "validation_errors": [],
        **{name: call.path[name] for name in ("signal_name",) if name in call.path},
    }  # fmt: skip
