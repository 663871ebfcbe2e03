"""Hand-made facts for judging without a cluster."""

from __future__ import annotations

from typing import Any

from smallcluster.api import Exchange
from smallcluster.containers import Container


def answer(route: str = "balancer", status: int | None = 200, path: str = "/api/x", **body: Any) -> Exchange:
    """An exchange that came back with this status and body; status None: no answer."""
    return Exchange(
        route=route,
        method="GET",
        path=path,
        sent=None,
        status=status,
        body=body,
        text=str(body),
        problem="" if status else "ConnectionError: refused",
        at=0.0,
        seconds=0.01,
    )


def container(service: str, **changed: Any) -> Container:
    """A container that runs as it should; `changed` makes it otherwise."""
    values: dict[str, Any] = {
        "service": service,
        "name": f"project-{service}-1",
        "id": service * 3,
        "status": "running",
        "started_at": "2026-01-01T00:00:05Z",
        "finished_at": "0001-01-01T00:00:00Z",
        "command": ("run", service),
        "networks": ("project_private",),
    }
    return Container(**(values | changed))


def topology(**changed: dict[str, Any] | None) -> dict[str, Container]:
    """A whole two-node topology; a service given as None is left out, as a mapping is changed by it."""
    services = ("database", "redis", "bootstrap", "server_a", "server_b", "balancer", "scheduler")
    special: dict[str, dict[str, Any]] = {
        "bootstrap": {"status": "exited", "finished_at": "2026-01-01T00:00:04.9Z"},
        "scheduler": {"command": ("dw-refserver", "scheduler")},
    }
    made = {}
    for name in services:
        change = changed.get(name, {})
        if change is None:
            continue
        service = name.replace("_", "-")
        made[service] = container(service, **(special.get(name, {}) | change))
    return made
