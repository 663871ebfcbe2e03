"""One JSON object per line on standard output. No secret and no payload is ever passed in."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import orjson

_node = ""


def name_node(server_id: str) -> None:
    """Set the node id that every line carries."""
    global _node  # noqa: PLW0603 - one process is one node
    _node = server_id


def log(event: str, level: str = "info", **fields: Any) -> None:
    """Write one line."""
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, "node": _node, "event": event}
    sys.stdout.buffer.write(orjson.dumps({**line, **fields}, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()
