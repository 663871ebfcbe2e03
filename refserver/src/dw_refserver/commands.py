"""The form of workflow-task commands: what may stand in which, before the engine sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dw_refserver.engine import COMMANDS, TIMEOUTS
from dw_refserver.protocol import invalid
from dw_refserver.validation import Fields, is_blob, is_envelope

_ONLY_IN: Mapping[str, Sequence[str]] = {
    "retry_policy": ("schedule_activity", "start_child_workflow"),
    **dict.fromkeys(TIMEOUTS, ("schedule_activity",)),
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
        yield from _payload("result", command.get("result"))
    elif kind == "schedule_activity":
        yield from _activity(command)
    else:
        yield from _failure(command)


def _payload(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if not (value is None or is_blob(value) or is_envelope(value)):
        yield name, f"The {name} must be null, a payload blob, or an envelope with the codec avro."


def _activity(command: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in command:
        if name.startswith("parallel_") and command[name] is not None:
            yield name, f"The {name} field is not supported by this server: it takes no parallel groups yet."
    for name in ("activity_type", "queue"):
        fields = Fields(command)
        fields.text(name, required=name == "activity_type")
        yield from fields.errors.items()
    yield from _payload("arguments", command.get("arguments"))
    yield from _timeouts(command)
    yield from _retry_policy(command.get("retry_policy"))


_WITHIN = (("heartbeat_timeout", "start_to_close_timeout"), ("start_to_close_timeout", "schedule_to_close_timeout"),
           ("schedule_to_start_timeout", "schedule_to_close_timeout"))  # fmt: skip
_LONGEST = 10 * 366 * 86_400


def _timeouts(command: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    fields = Fields(command)
    given = {name: fields.whole(name, 1, _LONGEST) for name in TIMEOUTS}
    yield from fields.errors.items()
    for name, outer in _WITHIN:
        if (given[name] or 0) > (given[outer] or _LONGEST):
            yield name, f"{name} must not be greater than {outer}."


def _retry_policy(policy: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(policy, dict):
        if policy not in (None, []):
            yield "retry_policy", "The retry policy field must be an array."
        return
    fields = Fields(policy)
    fields.whole("max_attempts", 1, 1_000_000)
    fields.texts("non_retryable_error_types")
    for pause in fields.items("backoff_seconds"):
        if not isinstance(pause, int | float) or isinstance(pause, bool) or not 0 <= pause <= _LONGEST:
            fields.fail("backoff_seconds", "The backoff seconds field must hold numbers that are not negative.")
    yield from ((f"retry_policy.{name}", text) for name, text in fields.errors.items())


def _failure(command: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not isinstance(command.get("message"), str) or not command["message"]:
        yield "message", "The message field is required for fail_workflow commands."
    for name in ("exception_type", "exception_class"):
        if not isinstance(command.get(name), str | None):
            yield name, f"The {name} field must be a string."
