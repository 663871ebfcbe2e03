"""Reads typed fields out of a request body and collects what is wrong with them, all fields before any answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from dw_refserver import codec
from dw_refserver.protocol import invalid, last_of

T = TypeVar("T")
LONGEST_TIMEOUT = 10 * 366 * 86_400
"""Seconds: what a client may ask for at most."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BLOB = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_DIGITS = re.compile(r"-?[0-9]{1,18}")


def is_blob(value: Any) -> bool:
    """Whether it can be a payload: base64 text. What is inside is for workers alone."""
    return isinstance(value, str) and _BLOB.fullmatch(value) is not None


def is_envelope(value: Any) -> bool:
    """Whether it is a payload with its codec."""
    return isinstance(value, dict) and value.get("codec") == "avro" and is_blob(value.get("blob"))


class Fields:
    """The fields of one body. Each reader gives the value or None; `done` refuses if any was wrong."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.body = body
        self.errors: dict[str, str] = {}

    def text(self, name: str, *, required: bool = False, most: int = 255, pattern: str | None = None) -> str | None:
        """A string of at most `most` characters, without control characters, that matches `pattern`."""
        value = self._typed(name, str, "must be a string", required=required)
        if value is None:
            return None
        if len(value) > most:
            self._wrong(name, f"must not be greater than {most} characters")
        elif _CONTROL.search(value) or (pattern and not re.fullmatch(pattern, value)):
            self._wrong(name, "format is invalid")
        else:
            return value
        return None

    def needed(self, name: str, *, most: int = 255) -> str:
        """A string that must be there; empty only if it was wrong."""
        return self.text(name, required=True, most=most) or ""

    def choice(self, name: str, allowed: Sequence[str], *, required: bool = False) -> str | None:
        """One of the allowed words."""
        value: str | None = self._value(name, required=required)
        if value is not None and value not in allowed:
            self.errors[name] = f"The selected {_spoken(name)} is invalid."
        return value

    def whole(self, name: str, least: int, most: int, *, required: bool = False) -> int | None:
        """An integer from `least` to `most`."""
        value = self._typed(name, int, "must be an integer", required=required)
        if value is None or least <= value <= most:
            return value
        self._wrong(name, f"must be at least {least}" if value < least else f"must not be greater than {most}")
        return None

    def token(self, name: str, pattern: str) -> str | None:
        """What a page token says was last on the page before."""
        token = self.text(name)
        last = None if token is None else last_of(token, pattern)
        if token is not None and last is None:
            self._wrong(name, "must be the token of an earlier page")
        return last

    def items(self, name: str, *, required: bool = False) -> list[Any]:
        """A list of at most a thousand items; absent counts as empty."""
        value = self._typed(name, list, "must be an array", required=required) or []
        if len(value) > 1000:
            self._wrong(name, "must not have more than 1000 items")
            return []
        return value

    def texts(self, name: str) -> list[str]:
        """A list of strings; absent counts as empty."""
        value = self.items(name)
        for position, item in enumerate(value):
            if not isinstance(item, str) or not 0 < len(item) <= 255 or _CONTROL.search(item):
                self._wrong(f"{name}.{position}", "must be a string")
        return value

    def mapping(self, name: str, *, required: bool = False) -> dict[str, Any]:
        """An object; absent or an empty list (as PHP writes an empty object) counts as empty."""
        if self.body.get(name) == [] and not required:
            return {}
        return self._typed(name, dict, "must be an array", required=required) or {}

    def fail(self, name: str, text: str) -> None:
        """Note a finding of the caller's own."""
        self.errors.setdefault(name, text)

    def only(self, *names: str) -> None:
        """Note every other field that holds something: what would be ignored is refused."""
        for name in self.body.keys() - names:
            if self.body[name] is not None:
                self.fail(name, f"The {name} field is not supported by this server.")

    def adopt(self, name: str, inner: Fields) -> None:
        """Note what is wrong in the object that the field `name` holds."""
        self.errors |= {f"{name}.{below}": text for below, text in inner.errors.items()}

    def done(self) -> None:
        """Refuse with 422 if anything was wrong."""
        if self.errors:
            raise invalid(self.errors)

    def _value(self, name: str, *, required: bool) -> Any:
        value = self.body.get(name)
        if required and value in (None, "", [], {}):
            self.errors[name] = f"The {_spoken(name)} field is required."
            return None
        return None if value == "" else value

    def _typed(self, name: str, kind: type[T], finding: str, *, required: bool) -> T | None:
        value = self._value(name, required=required)
        if value is None or (isinstance(value, kind) and not isinstance(value, bool)):
            return value
        self._wrong(name, finding)
        return None

    def _wrong(self, name: str, finding: str) -> None:
        self.errors[name] = f"The {_spoken(name)} field {finding}."


def parameters(given: Mapping[str, str], *whole: str) -> Fields:
    """The fields of a query string. All arrive as text; those named in `whole` are numbers if they are digits."""
    numbers = {name: int(given[name]) for name in whole if _DIGITS.fullmatch(given.get(name, ""))}
    return Fields({**given, **numbers})


def work_of(fields: Fields) -> dict[str, Any]:
    """What to run, by the names that `Start` has for it: type, queue, input, timeouts."""
    return {
        "workflow_type": fields.needed("workflow_type"),
        "queue": fields.text("task_queue") or "default",
        "payload_codec": "avro",
        "arguments": arguments_of(fields),
        "execution_timeout_seconds": fields.whole("execution_timeout_seconds", 1, LONGEST_TIMEOUT),
        "run_timeout_seconds": fields.whole("run_timeout_seconds", 1, LONGEST_TIMEOUT),
    }


def arguments_of(fields: Fields) -> str:
    """The input's blob: as it came in an envelope, or a plain JSON list encoded; nothing counts as the empty list."""
    given = fields.body.get("input")
    if given is None:
        given = []
    if isinstance(given, dict) and {"codec", "blob"} <= given.keys():
        if is_envelope(given):
            blob: str = given["blob"]
            return blob
        fields.fail("input", "The input envelope must carry the codec avro and a base64 blob.")
    elif isinstance(given, dict | list):
        return codec.encode(list(given.values()) if isinstance(given, dict) else given)
    else:
        fields.fail("input", "The input field must be an array.")
    return ""


def _spoken(name: str) -> str:
    return name.replace("_", " ")
