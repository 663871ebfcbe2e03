"""The form of workflow-task commands: what may stand in which, before the engine sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dw_refserver.engine import COMMANDS
from dw_refserver.protocol import invalid

_BATCH = 1000
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
    if len(commands) > _BATCH:
        raise invalid({"commands": f"The commands field must not have more than {_BATCH} items."})
    errors: dict[str, str] = {}
    for number, command in enumerate(commands):
        for name, text in _findings(command):
            errors[f"commands.{number}{name}"] = text
    if errors:
        raise invalid(errors)


def _findings(command: Any) -> list[tuple[str, str]]:
    if not isinstance(command, dict) or not isinstance(command.get("type"), str):
        return [(".type", "The command type field is required.")]
    kind = command["type"]
    misplaced = [name for name, kinds in _ONLY_IN.items() if command.get(name) is not None and kind not in kinds]
    if misplaced:
        return [
            (f".{name}", f"{name} is only supported for {' and '.join(_ONLY_IN[name])} commands.") for name in misplaced
        ]
    if kind not in COMMANDS:
        return [(".type", f"Workflow task command type [{kind}] is not supported by the server yet.")]
    return _completion(command) if kind == "complete_workflow" else _failure(command)


def _completion(command: Mapping[str, Any]) -> list[tuple[str, str]]:
    result = command.get("result")
    if result is None or isinstance(result, str):
        return []
    if isinstance(result, dict) and result.get("codec") == "avro" and isinstance(result.get("blob"), str):
        return []
    return [(".result", "The result must be null, a payload blob, or an envelope with the codec avro.")]


def _failure(command: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not isinstance(command.get("message"), str) or not command["message"]:
        return [(".message", "The message field is required for fail_workflow commands.")]
    named = ("exception_type", "exception_class")
    return [(f".{name}", f"The {name} field must be a string.") for name in named
            if not isinstance(command.get(name), str | None)]  # fmt: skip
