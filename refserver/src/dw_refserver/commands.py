"""The form of workflow-task commands: what may stand in which, before the engine sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dw_refserver.engine import TIMEOUTS
from dw_refserver.protocol import invalid
from dw_refserver.validation import Fields, is_blob, is_envelope
from dw_refserver.waiting import GROUP

_ONLY_IN: Mapping[str, Sequence[str]] = {
    "retry_policy": ("schedule_activity", "start_child_workflow"),
    **dict.fromkeys(TIMEOUTS, ("schedule_activity",)),
    **dict.fromkeys(GROUP, ("schedule_activity", "start_timer")),
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
    if kind not in _FORMS:
        yield "type", f"Workflow task command type [{kind}] is not supported by the server yet."
        return
    for name in command.keys() - GROUP:
        if name.startswith("parallel_") and command[name] is not None:
            yield name, f"The {name} field is not supported by this server."
    yield from _group(command)
    yield from _FORMS[kind](command)


def _group(command: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """All fields of a member, or none; and the last entry of the path is the member's own group."""
    own = {name: command.get(name) for name in GROUP[:-1]}
    path = command.get("parallel_group_path")
    if path is None and not any(value is not None for value in own.values()):
        return
    if not isinstance(path, list) or not 1 <= len(path) <= _DEEPEST or path[-1] != own:
        yield (
            "parallel_group_path",
            "The parallel_group_path field must be a list that ends with the command's own group.",
        )
        return
    ordinals = set()
    for entry in path:
        if not isinstance(entry, dict) or entry.keys() != own.keys() or not _is_entry(entry):
            yield (
                "parallel_group_path",
                "The parallel_group_path field must hold groups with an index within their size.",
            )
            return
        ordinals.add(entry["parallel_group_base_sequence"] + entry["parallel_group_index"])
    if len(ordinals) > 1:
        yield "parallel_group_path", "The parallel_group_path field must place the member at one step."


def _is_entry(entry: Mapping[str, Any]) -> bool:
    fields = Fields(entry)
    for name in ("parallel_group_id", "parallel_group_kind"):
        fields.text(name, required=True)
    fields.whole("parallel_group_base_sequence", 1, _MOST, required=True)
    size = fields.whole("parallel_group_size", 1, _MOST, required=True)
    fields.whole("parallel_group_index", 0, (size or 1) - 1, required=True)
    return not fields.errors


def _complete(command: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _payload("result", command.get("result"))


def _payload(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if not (value is None or is_blob(value) or is_envelope(value)):
        yield name, f"The {name} must be null, a payload blob, or an envelope with the codec avro."


def _activity(command: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _texts(command, "queue", required="activity_type")
    yield from _payload("arguments", command.get("arguments"))
    yield from _timeouts(command)
    yield from _retry_policy(command.get("retry_policy"))


def _texts(command: Mapping[str, Any], *names: str, required: str | None = None) -> Iterator[tuple[str, str]]:
    fields = Fields(command)
    for name in (*names, *([required] if required else [])):
        fields.text(name, required=name == required)
    yield from fields.errors.items()


def _continue(command: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _texts(command, "workflow_type", "queue")
    yield from _payload("arguments", command.get("arguments"))


def _timer(command: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    fields = Fields(command)
    fields.whole("delay_seconds", 0, _LONGEST, required=True)
    yield from fields.errors.items()


def _wait(command: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _texts(command, "condition_key", "condition_definition_fingerprint")
    fields = Fields(command)
    fields.whole("timeout_seconds", 0, _LONGEST)
    yield from fields.errors.items()


def _marker(command: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _texts(command, required="change_id")
    fields = Fields(command)
    for name in ("version", "min_supported", "max_supported"):
        fields.whole(name, -_MOST, _MOST, required=True)
    yield from fields.errors.items()


_WITHIN = (("heartbeat_timeout", "start_to_close_timeout"), ("start_to_close_timeout", "schedule_to_close_timeout"),
           ("schedule_to_start_timeout", "schedule_to_close_timeout"))  # fmt: skip
_LONGEST = 10 * 366 * 86_400
_MOST, _DEEPEST = 2**31 - 1, 20


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


_FORMS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[tuple[str, str]]]] = {
    "complete_workflow": _complete,
    "fail_workflow": _failure,
    "continue_as_new": _continue,
    "schedule_activity": _activity,
    "start_timer": _timer,
    "open_condition_wait": _wait,
    "record_side_effect": _complete,
    "record_version_marker": _marker,
}
"""What may stand in each command that the engine takes."""
