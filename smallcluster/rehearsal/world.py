"""What the steps of a rehearsal work on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smallcluster import interrupts
from smallcluster.rehearsal import backup, ran, session

if TYPE_CHECKING:
    from smallcluster.cluster import Cluster
    from smallcluster.evidence import Evidence
    from smallcluster.rehearsal.journal import Facts, Journal
    from smallcluster.rehearsal.ran import Watcher
    from smallcluster.rehearsal.session import Session
    from smallcluster.rehearsal.workload import Workload

Say = Callable[[str], None]


@dataclass
class World:
    """What the steps work on: the cluster as it was, as it shall be, the work on it, and what is written down."""

    before: Cluster
    after: Cluster
    work: Workload
    journal: Journal
    ran: Watcher
    kept: Evidence
    ending: ExitStack
    """What is ended with the run."""
    session: Session | None = None
    """The database's client that is asked in the window, once it was started."""
    logs: str = "logs-before"
    """The evidence's folder for what the nodes said that are replaced."""
    making: Future[None] | None = None
    """The making of the new nodes' containers, once it was begun."""

    def query(self, sql: str) -> list[str]:
        """Run SQL in the application's database, by a client that stays. Raises ClusterBrokenError where it can't."""
        if self.session is None:
            window = self.journal.plan.bootstrap_seconds + 2 * backup.DEADLINE
            self.session = self.ending.enter_context(session.opened(self.after, window))
        return self.session.query(sql)

    def hang_up(self) -> None:
        """End that client, whatever it waits for; the next question gets another one."""
        if self.session is not None:
            self.session.client.kill()
        self.session = None

    def settle_making(self) -> None:
        """Wait for what goes on beside the steps, however it ends: a teardown must not run beside it."""
        if self.making is not None:
            with interrupts.shielded():
                self.making.exception()

    @property
    def nodes(self) -> tuple[str, ...]:
        """The API nodes."""
        return self.after.settings.node_names

    @property
    def facts(self) -> Facts:
        """What the steps found out."""
        return self.journal.facts

    @property
    def scratch(self) -> str:
        """The name of a database of the rehearsal's own, beside the application's."""
        return f"rehearsal_{self.journal.work.mark}"

    def beside(self) -> list[str]:
        """What ran beside what it must not, by the engine's events so far."""
        images = ((one.ref, one.id) for one in (self.before.images["server"], self.after.images["server"]))
        return ran.beside(self.ran.events(), *images)
