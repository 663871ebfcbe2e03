"""Control plane, namespaces: list, create, show, change. They can't be deleted."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from dw_refserver.engine import Refused, iso
from dw_refserver.http import Answer, Call
from dw_refserver.store import namespaces
from dw_refserver.validation import Fields


async def every(call: Call) -> Answer:
    """GET /api/namespaces: all of them, by name."""
    return Answer({"namespaces": [_body(row) for row in await namespaces.every(call.node.db)]})


async def create(call: Call) -> Answer:
    """POST /api/namespaces: a new one, its name in lower case, as every request's is read."""
    fields = Fields(call.body)
    name = (fields.text("name", required=True, most=128, pattern=r"[a-zA-Z0-9._-]+") or "").lower()
    changes = {"retention_days": call.node.settings.retention_days, "description": None, **_changes(fields)}
    fields.done()
    if not await namespaces.create(call.node.db, name, **changes):
        raise Refused(409, "namespace_already_exists", "Namespace already exists.", namespace=name)
    return Answer(_body(await _found(call, name)), 201)


async def show(call: Call) -> Answer:
    """GET /api/namespaces/{namespace}."""
    return Answer(_body(await _found(call, call.path["namespace"].lower())))


async def change(call: Call) -> Answer:
    """PUT /api/namespaces/{namespace}: the fields that are given; the others stay."""
    fields, name = Fields(call.body), call.path["namespace"].lower()
    changes = _changes(fields)
    fields.done()
    await namespaces.change(call.node.db, name, changes)
    return Answer(_body(await _found(call, name)))


def _changes(fields: Fields) -> dict[str, Any]:
    """The columns that the body speaks of. A description can be taken away, a retention can't."""
    description, days = fields.prose("description"), fields.whole("retention_days", 1, 365)
    told = {"retention_days": days, "retention_mode": fields.choice("retention_mode", namespaces.RETENTION_MODES)}
    given = {name: value for name, value in told.items() if value is not None}
    return given | ({"description": description} if "description" in fields.body else {})


_TOLD = ("name", "description", "retention_days", "retention_mode", "status")


async def _found(call: Call, name: str) -> Row[Any]:
    row = await namespaces.find(call.node.db, name)
    if row is None:
        raise Refused(404, "namespace_not_found", f"Namespace [{name}] not found.", namespace=name)
    return row


def _body(row: Row[Any]) -> dict[str, Any]:
    told = {name: getattr(row, name) for name in _TOLD}
    moments = {"created_at": iso(row.created_at), "updated_at": iso(row.updated_at)}
    return {**told, "external_payload_storage": None, **moments}
