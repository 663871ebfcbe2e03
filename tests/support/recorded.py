"""What the published server 0.2.10 was recorded to answer, and how its ids, times and payloads are made anew."""

from __future__ import annotations

import base64
import copy
import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FILES = (HERE.parent / "refserver/recorded/exchanges-0.2.10.json", HERE / "recorded-0.2.10.json")
RECORDED = {one["name"]: one for path in FILES for one in json.loads(path.read_text())["exchanges"]}
INFO = RECORDED["003-cluster-info"]["body"]
CAPABILITIES = INFO["worker_protocol"]["server_capabilities"]


@dataclass(frozen=True)
class Reply:
    """A status and a body, which is any JSON value."""

    status: int
    body: Any


def recorded(name: str, /, **changed: Any) -> Reply:
    """A recorded answer with fields replaced wherever it has them at the top, in `task` or in `control_plane`."""
    exchange = RECORDED[name]
    body = copy.deepcopy(exchange["body"])
    for part in (body, body.get("task") or {}, body.get("control_plane") or {}):
        part.update({key: value for key, value in changed.items() if key in part})
    return Reply(exchange["status"], body)


def moment(later: float = 0.0) -> str:
    """This moment, or one that is `later` seconds after it, as the server writes it."""
    return datetime.fromtimestamp(time.time() + later, UTC).isoformat().replace("+00:00", "Z")


def blob(value: object) -> str:
    """A value in the codec that 0.2.10 calls avro: JSON text in a record with a version, for less than 64 bytes."""
    text = json.dumps(value, separators=(",", ":")).encode()
    assert len(text) < 64
    return base64.b64encode(bytes([0, 2 * len(text)]) + text + b"\x02").decode()


def duration(text: str) -> int:
    """Seconds of an ISO 8601 duration of hours and seconds."""
    found = re.fullmatch(r"PT(?:(\d+)H)?(?:(\d+)S)?", text)
    assert found, text
    return int(found[1] or 0) * 3600 + int(found[2] or 0)
