from __future__ import annotations

import base64
import io
import struct
from typing import Any

import pytest
from dw_refserver import codec
from hypothesis import given
from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBER = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


def whole(data: io.BytesIO) -> int:
    number = shift = 0
    while True:
        byte = data.read(1)[0]
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1)


def text(data: io.BytesIO) -> str:
    return data.read(whole(data)).decode()


def value(data: io.BytesIO) -> Any:
    """Read by the specification, for what the encoder wrote: one block per array or map."""
    branch = whole(data)
    if branch in (6, 7):
        count = whole(data)
        items = [(text(data) if branch == 7 else None, value(data)) for _ in range(count)]
        assert not count or whole(data) == 0
        return dict(items) if branch == 7 else [item for _, item in items]
    scalars = {0: lambda: None, 1: lambda: data.read(1) == b"\x01", 2: lambda: whole(data), 5: lambda: text(data)}
    return scalars.get(branch, lambda: struct.unpack("<d", data.read(8))[0])()


@pytest.mark.parametrize(
    ("given_value", "blob"),
    [
        (0, "wwHioz3/VYAiNwQA"),
        ("ok", "wwHioz3/VYAiNwoEb2s="),
        ([], "wwHioz3/VYAiNwwA"),
        (["ada"], "wwHioz3/VYAiNwwCCgZhZGEA"),
        ({"go": None, "noise": 1}, "wwHioz3/VYAiNw4EBGdvAApub2lzZQQCAA=="),
    ],
)
def test_as_the_official_sdk_writes_it(given_value: Any, blob: str) -> None:
    assert codec.encode(given_value) == blob


@given(JSON)
def test_what_goes_in_comes_out(given_value: Any) -> None:
    data = io.BytesIO(base64.b64decode(codec.encode(given_value))[10:])
    assert value(data) == given_value
    assert data.read() == b""


def test_a_number_beyond_64_signed_bits_is_a_double() -> None:
    assert value(io.BytesIO(base64.b64decode(codec.encode(2**63))[10:])) == float(2**63)
