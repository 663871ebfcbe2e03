"""ULIDs: 26 characters that sort by the millisecond they were made in, lower-case as the protocol's ids are."""

from __future__ import annotations

import os
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_ulid() -> str:
    """Make an id: 48 bits of time, then 80 random bits."""
    number = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))
