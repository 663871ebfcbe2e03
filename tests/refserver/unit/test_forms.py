"""Versions, fields and commands: what is refused, and how it is said."""

from __future__ import annotations

from typing import Any

import pytest
from dw_refserver import commands, protocol
from dw_refserver.command_engine import COMMANDS
from dw_refserver.engine import Refused
from dw_refserver.validation import Fields, parameters


def errors_of(refused: pytest.ExceptionInfo[Refused]) -> list[str]:
    return list(refused.value.fields["errors"])


@pytest.mark.parametrize("version", ["1.0", "1.5", "1.20"])
def test_worker_versions_up_to_ours_pass(version: str) -> None:
    protocol.check_worker_version(version, "1.20")


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        (None, "missing_protocol_version"),
        ("1.21", "unsupported_protocol_version"),
        ("2.0", "unsupported_protocol_version"),
        ("0.9", "unsupported_protocol_version"),
        ("1", "unsupported_protocol_version"),
        ("1.0.0", "unsupported_protocol_version"),
        ("1.\u0661", "unsupported_protocol_version"),
        ("", "unsupported_protocol_version"),
    ],
)
def test_other_worker_versions_are_refused(version: str | None, reason: str) -> None:
    with pytest.raises(Refused) as raised:
        protocol.check_worker_version(version, "1.20")
    assert (raised.value.status, raised.value.reason) == (400, reason)
    assert raised.value.fields["requested_version"] == version


PATH = ".parallel_group_path"


def member(base: int, size: int, index: int) -> dict[str, Any]:
    """What the command of a group's member says about the group."""
    own = {"parallel_group_id": f"parallel-timers:{base}:{size}", "parallel_group_kind": "timer",
           "parallel_group_base_sequence": base, "parallel_group_size": size,
           "parallel_group_index": index}  # fmt: skip
    return {**own, "parallel_group_path": [own]}


@pytest.mark.parametrize(
    ("command", "field"),
    [
        ("complete_workflow", ".type"),
        ({}, ".type"),
        ({"type": 7}, ".type"),
        ({"type": "teleport"}, ".type"),
        ({"type": "schedule_activity"}, ".activity_type"),
        ({"type": "schedule_activity", "activity_type": "a", "parallel_group_path": []}, ".parallel_group_path"),
        ({"type": "schedule_activity", "activity_type": "a", "arguments": [1]}, ".arguments"),
        ({"type": "schedule_activity", "activity_type": "a", "queue": 3}, ".queue"),
        ({"type": "schedule_activity", "activity_type": "a", "heartbeat_timeout": 0}, ".heartbeat_timeout"),
        (
            {"type": "schedule_activity", "activity_type": "a", "heartbeat_timeout": 9, "start_to_close_timeout": 5},
            ".heartbeat_timeout",
        ),
        (
            {
                "type": "schedule_activity",
                "activity_type": "a",
                "start_to_close_timeout": 9,
                "schedule_to_close_timeout": 5,
            },
            ".start_to_close_timeout",
        ),
        (
            {
                "type": "schedule_activity",
                "activity_type": "a",
                "schedule_to_start_timeout": 9,
                "schedule_to_close_timeout": 5,
            },
            ".schedule_to_start_timeout",
        ),
        ({"type": "schedule_activity", "activity_type": "a", "retry_policy": "often"}, ".retry_policy"),
        (
            {"type": "schedule_activity", "activity_type": "a", "retry_policy": {"max_attempts": 0}},
            ".retry_policy.max_attempts",
        ),
        (
            {"type": "schedule_activity", "activity_type": "a", "retry_policy": {"backoff_seconds": [-1]}},
            ".retry_policy.backoff_seconds",
        ),
        ({"type": "start_timer", "heartbeat_timeout": 3}, ".heartbeat_timeout"),
        ({"type": "complete_workflow", "retry_policy": {}}, ".retry_policy"),
        ({"type": "complete_workflow", "result": {"codec": "json", "blob": "1"}}, ".result"),
        ({"type": "complete_workflow", "result": [1]}, ".result"),
        ({"type": "complete_workflow", "result": "not base64"}, ".result"),
        ({"type": "complete_workflow", "result": {"codec": "avro", "blob": "\0"}}, ".result"),
        ({"type": "start_timer"}, ".delay_seconds"),
        ({"type": "start_timer", "delay_seconds": -1}, ".delay_seconds"),
        ({"type": "start_timer", "delay_seconds": "2"}, ".delay_seconds"),
        ({"type": "open_condition_wait", "timeout_seconds": -1}, ".timeout_seconds"),
        ({"type": "open_condition_wait", "condition_key": 1}, ".condition_key"),
        ({"type": "open_condition_wait", "parallel_group_mode": "select"}, ".parallel_group_mode"),
        ({"type": "record_side_effect", "result": 5}, ".result"),
        ({"type": "record_version_marker", "version": 1, "min_supported": 1, "max_supported": 1}, ".change_id"),
        ({"type": "record_version_marker", "change_id": "c", "min_supported": 1, "max_supported": 1}, ".version"),
        ({"type": "continue_as_new", "arguments": {}}, ".arguments"),
        ({"type": "start_timer", "delay_seconds": 1, **member(1, 2, 2)}, ".parallel_group_path"),
        ({"type": "start_timer", "delay_seconds": 1, **member(1, 2, 0), "parallel_group_index": 1}, PATH),
        ({"type": "start_timer", "delay_seconds": 1, **member(1, 2, 0), "parallel_group_path": "x"}, PATH),
        ({"type": "fail_workflow"}, ".message"),
        ({"type": "fail_workflow", "message": "m", "exception_class": 1}, ".exception_class"),
    ],
)
def test_commands_are_refused_by_place_and_field(command: Any, field: str) -> None:
    with pytest.raises(Refused) as raised:
        commands.check([{"type": "complete_workflow"}, command])
    assert (raised.value.status, raised.value.reason) == (422, "validation_failed")
    assert errors_of(raised) == [f"commands.1{field}"]


def test_every_command_of_the_engine_has_a_form_and_passes_it() -> None:
    fine: list[dict[str, Any]] = [
        {"type": "schedule_activity", "activity_type": "a", **member(3, 2, 0)},
        {"type": "start_timer", "delay_seconds": 0, **member(3, 2, 1)},
        {"type": "open_condition_wait", "timeout_seconds": 0, "condition_key": "k"},
        {"type": "record_side_effect", "result": "AA=="},
        {"type": "record_version_marker", "change_id": "c", "version": -1, "min_supported": -1, "max_supported": 2},
        {"type": "continue_as_new", "arguments": None},
        {"type": "complete_workflow"},
        {"type": "fail_workflow", "message": "m"},
    ]
    commands.check(fine)
    assert {command["type"] for command in fine} == {*COMMANDS}


def test_a_huge_batch_is_refused_whole() -> None:
    fields = Fields({"commands": [{"type": "complete_workflow"}] * 1001})
    assert fields.items("commands", required=True) == []
    with pytest.raises(Refused) as raised:
        fields.done()
    assert errors_of(raised) == ["commands"]


def test_all_fields_are_judged_before_any_answer() -> None:
    fields = Fields({"a": 1, "b": "x" * 300, "c": "with\0zero", "d": True, "e": 99, "f": ["ok", 3], "g": 5})
    for name in "abc":
        assert fields.text(name) is None
    for name in "de":
        assert fields.whole(name, 1, 9) is None
    fields.texts("f")
    assert fields.mapping("g") == {}
    assert fields.needed("absent_field") == ""
    with pytest.raises(Refused) as raised:
        fields.done()
    assert errors_of(raised) == ["a", "b", "c", "d", "e", "f.1", "g", "absent_field"]
    assert raised.value.fields["errors"]["absent_field"] == ["The absent field field is required."]
    assert raised.value.text.endswith("(and 7 more errors)")


def test_empty_text_counts_as_absent() -> None:
    fields = Fields({"a": "", "b": [], "c": None})
    assert (fields.text("a"), fields.mapping("b"), fields.texts("c")) == (None, {}, [])
    fields.done()


@pytest.mark.parametrize(
    ("text", "value", "wrong"),
    [("7", 7, False), ("007", 7, False), ("", None, False), ("0", None, True), ("-1", None, True), ("10", None, True),
     ("x", None, True), ("1.0", None, True), ("+7", None, True), (" 7", None, True), ("7\n", None, True),
     ("\u0667", None, True), ("9" * 30, None, True)],
)  # fmt: skip
def test_numbers_of_a_query_string_arrive_as_digits(text: str, value: int | None, *, wrong: bool) -> None:
    fields = parameters({"size": text, "type": "7"}, "size", "absent")
    assert (fields.whole("size", 1, 9), fields.whole("absent", 1, 9), fields.text("type")) == (value, None, "7")
    assert ("size" in fields.errors) is wrong


@pytest.mark.parametrize("last", ["1", "999999999"])
def test_a_page_token_comes_back_as_what_it_was(last: str) -> None:
    assert protocol.last_of(protocol.page_token(last), protocol.SEQUENCE) == last
    assert protocol.page_token(int(last)) == protocol.page_token(last)


@pytest.mark.parametrize(
    "token", ["", "!", "MQ", "M Q==", "\u0661", "LTE=", "MQo=", "4oCo", "gA==", "MDEyMzQ1Njc4OQ=="]
)
def test_other_page_tokens_are_refused(token: str) -> None:
    assert protocol.last_of(token, protocol.SEQUENCE) is None
    fields = Fields({"next": token})
    assert fields.token("next", protocol.SEQUENCE) is None
    assert list(fields.errors) == (["next"] if token else [])
