"""Control plane, task queues: what waits, who holds what, who polls, and what is let through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import Row

from dw_refserver.broker import BrokerLostError
from dw_refserver.budgets import GROUPS, Budget
from dw_refserver.engine import iso
from dw_refserver.fleet import status_of
from dw_refserver.http import Answer, Call
from dw_refserver.store import queues, workers

_POLLER = (
    "worker_id", "runtime", "sdk_version", "build_id", "supported_workflow_types", "supported_activity_types",
    "max_concurrent_workflow_tasks", "max_concurrent_activity_tasks",
)  # fmt: skip
_COUNTED = ("ready_count", "leased_count", "expired_lease_count")
_UNITS = (("d", 86_400), ("h", 3600), ("m", 60))


@dataclass
class Seen:
    """What a namespace's queues were found to hold. Counts are by (queue, kind); `pending` is None without Redis."""

    counts: Mapping[tuple[str, str], Mapping[str, int]]
    oldest: Mapping[str, Row[Any]]
    workers: Mapping[str, Sequence[Row[Any]]]
    pending: Mapping[str, int] | None
    names: Sequence[str] = field(default_factory=list)

    def count(self, queue: str, kind: str) -> dict[str, int]:
        """One queue's counts of a kind of task."""
        found = self.counts.get((queue, kind), {})
        return {name: found.get(name, 0) for name in _COUNTED}

    def queries_of(self, queue: str) -> int | None:
        """The queue's pending queries, if Redis could be asked."""
        return None if self.pending is None else self.pending[queue]

    def leased(self, kind: str) -> int:
        """The namespace's active leases of a kind."""
        return sum(found["leased_count"] for (_, of), found in self.counts.items() if of == kind)


async def listing(call: Call) -> Answer:
    """GET /api/task-queues: every queue that has tasks or workers."""
    seen = await _look(call)
    shown = [{"name": name, **_body(call, seen, name)} for name in seen.names]
    return Answer({"namespace": call.namespace, "task_queues": shown})


async def show(call: Call) -> Answer:
    """GET /api/task-queues/{queue}: one queue, with its leases and pollers; one that nobody uses is an empty one."""
    name, stale_after = call.path["task_queue"], call.node.settings.stale_after
    seen = await _look(call, name)
    leases = await queues.leases(call.node.db, call.namespace, name)
    return Answer({
        "name": name,
        "namespace": call.namespace,
        "pollers": [_poller(row, stale_after) for row in seen.workers.get(name, ())],
        **_body(call, seen, name),
        "current_leases": [_lease(row) for row in leases],
    })  # fmt: skip


async def _look(call: Call, asked: str | None = None) -> Seen:
    db, namespace = call.node.db, call.namespace
    by_queue: dict[str, list[Row[Any]]] = {}
    for row in await workers.every(db, namespace):
        by_queue.setdefault(row.task_queue, []).append(row)
    names = sorted({*await queues.names(db, namespace), *by_queue, *([] if asked is None else [asked])})
    counted = {(row.queue, row.task_type): row._asdict() for row in await queues.counts(db, namespace, names)}
    oldest = {row.queue: row for row in await queues.oldest(db, namespace, names)}
    try:
        pending = dict(zip(names, await call.node.broker.pending(namespace, names), strict=True))
    except BrokerLostError:
        pending = None
    return Seen(counted, oldest, by_queue, pending, names)


def _body(call: Call, seen: Seen, name: str) -> dict[str, Any]:
    settings = call.node.settings
    standing = [status_of(row, settings.stale_after) for row in seen.workers.get(name, ())]
    return {
        "stats": {
            **_backlog(seen, name),
            **{group: seen.count(name, kind) for group, kind in GROUPS.items()},
            "pollers": {
                "active_count": len(standing) - standing.count("stale"),
                "stale_count": standing.count("stale"),
                "stale_after_seconds": settings.stale_after,
            },
        },
        "admission": {
            **{group: _admission(call, seen, name, group) for group in GROUPS},
            "query_tasks": query_admission(seen.queries_of(name), settings.queries.most_pending),
        },
    }


def _backlog(seen: Seen, name: str) -> dict[str, Any]:
    oldest = seen.oldest.get(name)
    age = None if oldest is None else max(0, int(-oldest.due_in))
    return {
        "approximate_backlog_count": sum(seen.count(name, kind)["ready_count"] for kind in queues.KINDS),
        "approximate_backlog_age": None if age is None else spoken(age),
        "approximate_backlog_age_seconds": age,
        "oldest_ready_task": oldest and {
            "task_id": oldest.id, "task_type": oldest.task_type, "workflow_id": oldest.workflow_instance_id,
            "run_id": oldest.workflow_run_id, "available_at": iso(oldest.available_at), "age_seconds": age,
        },
    }  # fmt: skip


def spoken(seconds: int) -> str:
    """An age in its two largest units: 59s, 1m 5s, 2h 3m."""
    parts = []
    for unit, length in _UNITS:
        if seconds >= length:
            parts.append(f"{seconds // length}{unit}")
            seconds %= length
    return " ".join([*parts, f"{seconds}s"][:2])


def _admission(call: Call, seen: Seen, name: str, group: str) -> dict[str, Any]:
    settings, kind = call.node.settings, GROUPS[group]
    active = [row for row in seen.workers.get(name, ()) if status_of(row, settings.stale_after) == "active"]
    slots = sum(getattr(row, f"max_concurrent_{group}") for row in active)
    counted, budget = seen.count(name, kind), settings.budgets.of(kind, call.namespace, name)
    here, everywhere, lockable = counted["leased_count"], seen.leased(kind), not call.node.gate.lost
    return {
        "budget_source": f"worker_registration.max_concurrent_{group}",
        "server_budget_source": f"server.admission.{group}.max_active_leases_per_queue",
        "active_worker_count": len(active),
        "configured_slot_count": slots,
        "leased_count": here,
        "ready_count": counted["ready_count"],
        "available_slot_count": max(0, slots - here),
        "server_max_active_leases_per_queue": budget.queue,
        "server_active_lease_count": here,
        "server_remaining_active_lease_capacity": remaining(budget.queue, here),
        "server_max_active_leases_per_namespace": budget.namespace,
        "server_namespace_active_lease_count": everywhere,
        "server_remaining_namespace_active_lease_capacity": remaining(budget.namespace, everywhere),
        "server_lock_required": budget.limited,
        "server_lock_supported": lockable,
        "status": admission_status(budget, (here, everywhere), slots if active else None, lockable=lockable),
    }


def remaining(limit: int | None, used: int) -> int | None:
    """What is left of a limit, if there is one."""
    return None if limit is None else max(0, limit - used)


def admission_status(budget: Budget, leased: tuple[int, int], slots: int | None, *, lockable: bool) -> str:
    """The first that holds, in the protocol's order. `leased` is on the queue and in the namespace; `slots` is None if
    no worker is active."""
    here, everywhere = leased
    findings = (
        ("unavailable", budget.limited and not lockable),
        ("throttled", 0 in (remaining(budget.queue, here), remaining(budget.namespace, everywhere))),
        ("no_active_workers", slots is None),
        ("no_slots", slots == 0),
        ("saturated", slots is not None and here >= slots),
    )
    return next((status for status, holds in findings if holds), "accepting")


def query_admission(pending: int | None, most: int) -> dict[str, Any]:
    """What a queue says of its queries; the count is None if Redis can't be asked."""
    left = remaining(most, pending or 0)
    return {
        "budget_source": "server.query_tasks.max_pending_per_queue",
        "max_pending_per_queue": most,
        "approximate_pending_count": pending,
        "remaining_pending_capacity": None if pending is None else left,
        "lock_required": True,
        "lock_supported": pending is not None,
        "status": "unavailable" if pending is None else "accepting" if left else "full",
    }


def _poller(row: Row[Any], stale_after: int) -> dict[str, Any]:
    status = status_of(row, stale_after)
    told = {name: getattr(row, name) for name in _POLLER}
    until = row.last_heartbeat_at + timedelta(seconds=stale_after)
    moments = {"last_heartbeat_at": iso(row.last_heartbeat_at), "heartbeat_expires_at": iso(until)}
    return {**told, **moments, "status": status, "is_stale": status == "stale"}


def _lease(row: Row[Any]) -> dict[str, Any]:
    return {
        "task_id": row.id, "task_type": row.task_type, "workflow_id": row.workflow_instance_id,
        "run_id": row.workflow_run_id, "lease_owner": row.lease_owner, "lease_expires_at": iso(row.lease_expires_at),
        "is_expired": row.ends_in <= 0,
        "workflow_task_attempt": row.attempt_count if row.task_type == "workflow" else None,
    }  # fmt: skip
