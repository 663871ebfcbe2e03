"""What one API node holds while it runs: settings, database, waiters, signals. No request state."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from dw_refserver.admission import Gate
from dw_refserver.broker import Broker
from dw_refserver.settings import Settings
from dw_refserver.signals import Signals
from dw_refserver.store import namespaces
from dw_refserver.store.database import Database
from dw_refserver.wake import Hub

_NAMESPACE_SECONDS = 5.0


@dataclass
class Node:
    """The parts that handlers use."""

    settings: Settings
    db: Database
    hub: Hub
    signals: Signals
    broker: Broker
    gate: Gate
    known: dict[str, float] = field(default_factory=dict)
    round_trip: asyncio.Future[None] | None = None
    """The look at Redis that is on its way, if one is."""

    async def knows_namespace(self, namespace: str) -> bool:
        """Whether the namespace exists; a yes is believed for a few seconds."""
        if self.known.get(namespace, 0) > time.monotonic():
            return True
        if not await namespaces.exists(self.db, namespace):
            return False
        self.known[namespace] = time.monotonic() + _NAMESPACE_SECONDS
        return True


def build(settings: Settings) -> Node:
    """Put a node together; nothing is contacted yet."""
    db, hub = Database(settings.database, settings.server_id), Hub()
    broker = Broker(settings)
    signals = Signals(settings.redis, hub, db, settings.reprobe_interval, broker.due)
    return Node(settings, db, hub, signals, broker, Gate(settings))
