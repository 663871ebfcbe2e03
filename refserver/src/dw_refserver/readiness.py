"""Health and readiness. Each probe is bounded, also while the database or Redis hangs instead of refusing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from dw_refserver.http import Answer, Call
from dw_refserver.node import Node
from dw_refserver.settings import Auth
from dw_refserver.signals import LOST
from dw_refserver.store import namespaces
from dw_refserver.store.database import BackendUnavailableError
from dw_refserver.store.tables import metadata
from dw_refserver.ulid import new_ulid

T = TypeVar("T")
_PROBE_SECONDS = 1.4
_BOOTSTRAP = "Run server-bootstrap against this database."
_GONE = (BackendUnavailableError, DBAPIError, OSError, TimeoutError)


async def _bounded(work: Coroutine[Any, Any, T]) -> T:
    """Its result, or TimeoutError in time for the answer, even if `work` is slow to be cancelled."""
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait({task}, timeout=_PROBE_SECONDS)
    if done:
        return task.result()
    task.add_done_callback(lambda late: late.cancelled() or late.exception())
    task.cancel()
    raise TimeoutError


async def health(call: Call) -> Answer:
    """GET /api/health: is the process serving; not a traffic gate."""
    try:
        await _bounded(namespaces.ping(call.node.db))
    except _GONE:
        return Answer({"status": "degraded", "timestamp": _now(), "checks": {"database": "unavailable"}}, 503)
    return Answer({"status": "serving", "timestamp": _now(), "checks": {"database": "ok"}})


async def ready(call: Call) -> Answer:
    """GET /api/ready: may traffic come here. Redis gone is a warning: the database is the truth."""
    stored, cache = await asyncio.gather(_database_checks(call.node), _cache_check(call.node))
    checks = {**stored, "cache": cache, "auth": _auth_check(call.node.settings.auth)}
    fine = all(check["status"] in ("ok", "warning") for check in checks.values())
    body = {"status": "ready" if fine else "not_ready", "timestamp": _now(), "checks": checks}
    return Answer(body, 200 if fine else 503)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


async def _database_checks(node: Node) -> dict[str, dict[str, Any]]:
    try:
        return await _bounded(_look_into_database(node))
    except _GONE:
        lost: dict[str, Any] = {"status": "unavailable"}
        told = lost | {"message": "The database does not answer."}
        return {"database": told, "migrations": lost, "default_namespace": lost}


async def _look_into_database(node: Node) -> dict[str, dict[str, Any]]:
    name = node.settings.default_namespace
    migrations = await _migrations(node)
    seeded = migrations["status"] == "ok" and await namespaces.exists(node.db, name)
    namespace = {"status": "ok" if seeded else "missing", "namespace": name}
    return {"database": {"status": "ok"}, "migrations": migrations, "default_namespace": namespace}


async def _migrations(node: Node) -> dict[str, Any]:
    missing = sorted({*metadata.tables, "alembic_version"} - await namespaces.tables_present(node.db))
    if missing:
        return {"status": "missing", "missing_tables": missing, "remediation": _BOOTSTRAP}
    version = await namespaces.schema_version(node.db)
    if version is None or version < namespaces.HEAD:
        return {"status": "pending", "pending_migrations": [namespaces.HEAD], "remediation": _BOOTSTRAP}
    return {"status": "ok"}


async def _cache_check(node: Node) -> dict[str, Any]:
    try:
        await _bounded(_shared_round_trip(node))
    except LOST:
        lost = {"degraded_capability": "long_poll_wake_acceleration", "correctness_substrate": "database"}
        return {"status": "warning", "store": "redis", **lost}
    return {"status": "ok", "store": "redis"}


async def _shared_round_trip(node: Node) -> None:
    """Probes that come while one is on its way share it: however many ask, one connection is used."""
    if node.round_trip is None or node.round_trip.done():
        node.round_trip = asyncio.ensure_future(_round_trip(node))
        node.round_trip.add_done_callback(lambda done: done.cancelled() or done.exception())  # heard, if nobody waits
    await asyncio.shield(node.round_trip)


async def _round_trip(node: Node) -> None:
    """Write, read and delete a key that ends by itself."""
    key = f"{node.settings.redis.prefix}ready:{new_ulid()}"
    await node.signals.redis.set(key, "1", ex=10)
    if await node.signals.redis.getdel(key) != b"1":
        raise RedisError("what was written could not be read back")


def _auth_check(auth: Auth) -> dict[str, Any]:
    if auth.usable:
        return {"status": "ok", "driver": auth.driver}
    names = "DW_SIGNATURE_KEY" if auth.driver == "signature" else "DW_AUTH_TOKEN"
    return {"status": "missing", "driver": auth.driver, "remediation": f"Set {names}, or the variables of the roles."}
