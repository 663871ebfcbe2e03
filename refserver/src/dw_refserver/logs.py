"""One JSON object per line on standard output. No secret and no payload is ever passed in.

Lines are written in batches: a write per request costs more than the line is worth, and a reader that lags would hold
up the request that waits for it.
"""

from __future__ import annotations

import asyncio
import atexit
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

_BATCH_SECONDS = 0.05
_BATCH_LINES = 200

_node = ""
_lines: list[bytes] = []
_lost = 0


def name_node(server_id: str) -> None:
    """Set the node id that every line carries."""
    global _node  # noqa: PLW0603 - one process is one node
    _node = server_id


def log(event: str, level: str = "info", **fields: Any) -> None:
    """Write one line: within a moment, or at once where it is no mere information."""
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, "node": _node, "event": event}
    _lines.append(orjson.dumps({**line, **fields}, option=orjson.OPT_APPEND_NEWLINE))
    if event != "request" or len(_lines) >= _BATCH_LINES:
        flush()
    elif len(_lines) == 1:
        asyncio.get_running_loop().call_later(_BATCH_SECONDS, flush)


@atexit.register
def flush() -> None:
    """Write what is waiting. Lines that can't be written are lost, and how many is told by the next that can."""
    global _lost  # noqa: PLW0603 - as above
    batch, count = b"".join(_lines), len(_lines)
    _lines.clear()
    if _lost:
        batch += orjson.dumps({"event": "log_lines_lost", "node": _node, "lines": _lost}) + b"\n"
    try:
        sys.stdout.buffer.write(batch)
        sys.stdout.buffer.flush()
    except OSError:
        _lost += count
    else:
        _lost = 0
