"""The typed Avro Value codec, for the payloads that the server itself must make or show.

Payloads in envelopes are kept verbatim and never need this. A blob is base64 of the single-object header (C3 01 and
the schema's fingerprint) and one Avro union: null, boolean, long, double, bytes, string, array, map.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Iterable
from typing import Any

_HEADER = bytes.fromhex("c301e2a33dff55802237")
_DEEPEST = 200
_LONG = 2**63


class CodecError(ValueError):
    """A value that the codec can't hold, or a blob that isn't one."""


def encode(value: Any) -> str:
    """JSON value to blob."""
    return base64.b64encode(_HEADER + _value(value, 0)).decode()


def decode(blob: str) -> Any:
    """Blob to JSON value; bytes come back as base64 text."""
    try:
        data = base64.b64decode(blob, validate=True)
        if not data.startswith(_HEADER):
            raise CodecError("not a typed Avro Value")
        reader = _Reader(data, len(_HEADER))
        value = reader.value(0)
    except (binascii.Error, UnicodeDecodeError, struct.error, IndexError) as error:
        raise CodecError("malformed") from error
    if reader.at != len(data):
        raise CodecError("bytes after the value")
    return value


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


def _value(value: Any, depth: int) -> bytes:
    if depth > _DEEPEST:
        raise CodecError("nested too deeply")
    match value:
        case list():
            return _long(6) + _block(len(value), (_value(item, depth + 1) for item in value))
        case dict():
            return _long(7) + _block(len(value), (_text(k) + _value(v, depth + 1) for k, v in value.items()))
    return _scalar(value)


def _block(count: int, items: Iterable[bytes]) -> bytes:
    return (_long(count) + b"".join(items) if count else b"") + _long(0)


def _scalar(value: Any) -> bytes:
    match value:
        case None:
            return _long(0)
        case bool():
            return _long(1) + bytes([value])
        case int() if -_LONG <= value < _LONG:
            return _long(2) + _long(value)
        case int() | float() if math.isfinite(value):
            return _long(3) + struct.pack("<d", value)
        case str():
            return _long(5) + _text(value)
    raise CodecError(f"can't encode {type(value).__name__}")


class _Reader:
    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise CodecError("cut short")
        self.at += count
        return self.data[self.at - count : self.at]

    def long(self) -> int:
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return (number >> 1) ^ -(number & 1)
            if shift > 63:
                raise CodecError("number too long")

    def text(self) -> str:
        return self.take(self.long()).decode()

    def value(self, depth: int) -> Any:
        branch = self.long()
        if depth > _DEEPEST or not 0 <= branch <= 7:
            raise CodecError("not a value")
        return (
            self._null, self._boolean, self.long, self._double, self._bytes, self.text,
            lambda: [self.value(depth + 1) for _ in self._blocks()],
            lambda: {self.text(): self.value(depth + 1) for _ in self._blocks()},
        )[branch]()  # fmt: skip

    def _null(self) -> None:
        return None

    def _boolean(self) -> bool:
        return self.take(1) == b"\x01"

    def _double(self) -> float:
        number: float = struct.unpack("<d", self.take(8))[0]
        return number

    def _bytes(self) -> str:
        return base64.b64encode(self.take(self.long())).decode()

    def _blocks(self) -> Any:
        """Once per item, over all blocks; a negative count is followed by the block's size."""
        while count := self.long():
            if count < 0:
                count = -count
                self.long()
            if count > len(self.data):
                raise CodecError("cut short")
            for _ in range(count):
                yield
