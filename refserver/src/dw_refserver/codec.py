"""The typed Avro Value encoder, for payloads that the server itself must make: an input given as plain JSON.

Payloads in envelopes are kept verbatim and never need this. A blob is base64 of the single-object header (C3 01 and
the schema's fingerprint) and one Avro union: null, boolean, long, double, bytes, string, array, map.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Any

_HEADER = bytes.fromhex("c301e2a33dff55802237")
_LONG = 2**63


def encode(value: Any) -> str:
    """JSON value to blob. A whole number beyond 64 signed bits becomes a double, as JSON itself would have it."""
    return base64.b64encode(_HEADER + _value(value)).decode()


def _value(value: Any) -> bytes:  # noqa: PLR0911 - one per kind of value
    match value:
        case None:
            return _long(0)
        case bool():
            return _long(1) + bytes([value])
        case int() if -_LONG <= value < _LONG:
            return _long(2) + _long(value)
        case int() | float():
            return _long(3) + struct.pack("<d", value)
        case str():
            return _long(5) + _text(value)
        case list():
            return _long(6) + _block([_value(item) for item in value])
        case _:
            return _long(7) + _block([_text(key) + _value(item) for key, item in value.items()])


def _long(number: int) -> bytes:
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _text(text: str) -> bytes:
    data = text.encode()
    return _long(len(data)) + data


def _block(items: Sequence[bytes]) -> bytes:
    return (_long(len(items)) + b"".join(items) if items else b"") + _long(0)
