from __future__ import annotations

import base64
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


@pytest.mark.parametrize(
    ("value", "blob"),
    [
        (0, "wwHioz3/VYAiNwQA"),
        ("ok", "wwHioz3/VYAiNwoEb2s="),
        ([], "wwHioz3/VYAiNwwA"),
        (["ada"], "wwHioz3/VYAiNwwCCgZhZGEA"),
        ({"go": None, "noise": 1}, "wwHioz3/VYAiNw4EBGdvAApub2lzZQQCAA=="),
    ],
)
def test_as_the_official_sdk_writes_it(value: Any, blob: str) -> None:
    assert codec.encode(value) == blob
    assert codec.decode(blob) == value


@given(JSON)
def test_what_goes_in_comes_out(value: Any) -> None:
    assert codec.decode(codec.encode(value)) == value


@given(st.binary(max_size=60))
def test_a_malformed_blob_is_said_to_be_one(tail: bytes) -> None:
    blob = base64.b64encode(bytes.fromhex("c301e2a33dff55802237") + tail).decode()
    try:
        codec.decode(blob)
    except codec.CodecError:
        return
    assert tail, "an empty body is no value"


@pytest.mark.parametrize("blob", ["", "AA5bIkFkYSJdAg==", "!!", "wwHioz3/VYAiNwQA" + "AAAA"])
def test_other_formats_are_refused(blob: str) -> None:
    with pytest.raises(codec.CodecError):
        codec.decode(blob)


def test_too_deep_a_value_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    with pytest.raises(codec.CodecError):
        codec.encode(deep)
