"""The form of workflow-task commands: what may stand in which, before the engine sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dw_refserver.engine import COMMANDS
from dw_refserver.protocol import invalid
from dw_refserver.validation import is_blob, is_envelope

_ACTIVITY = ("schedule_activity",)
_ONLY_IN: Mapping[str, Sequence[str]] = {
    "retry_policy": ("schedule_activity", "start_child_workflow"),
    "start_to_close_timeout": _ACTIVITY,
    "schedule_to_start_timeout": _ACTIVITY,
    "schedule_to_close_timeout": _ACTIVITY,
    "heartbeat_timeout": _ACTIVITY,
}


def check(commands: Sequence[Any]) -> None:
    """Refuse with 422 and every finding, each under `commands.N.field`."""
    errors = {f"commands.{number}.{name}": text for number, command in enumerate(commands)
              for name, text in _findings(command)}  # fmt: skip
    if errors:
        raise invalid(errors)


def _findings(command: Any) -> Iterator[tuple[str, str]]:
    kind = command.get("type") if isinstance(command, dict) else None
    if not isinstance(kind, str):
        yield "type", "The command type field is required."
        return
    misplaced = [name for name, kinds in _ONLY_IN.items() if command.get(name) is not None and kind not in kinds]
    for name in misplaced:
        yield name, f"{name} is only supported for {' and '.join(_ONLY_IN[name])} commands."
    if misplaced:
        return
    if kind not in COMMANDS:
        yield "type", f"Workflow task command type [{kind}] is not supported by the server yet."
    elif kind == "complete_workflow":
        yield from _completion(command.get("result"))
    else:
        yield from _failure(command)


def _completion(result: Any) -> Iterator[tuple[str, str]]:
    if not (result is None or is_blob(result) or is_envelope(result)):
        yield "result", "The result must be null, a payload blob, or an envelope with the codec avro."


def _failure(command: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not isinstance(command.get("message"), str) or not command["message"]:
        yield "message", "The message field is required for fail_workflow commands."
    for name in ("exception_type", "exception_class"):
        if not isinstance(command.get(name), str | None):
            yield name, f"The {name} field must be a string."
