"""What checks and evidence need of a running cluster: to look at it, and to ask its database."""

from __future__ import annotations

from typing import Literal, Protocol

from smallcluster.containers import Container
from smallcluster.settings import Settings


class Observed(Protocol):
    """A running cluster: its addresses, its containers, what they printed, its database."""

    @property
    def settings(self) -> Settings:
        """What the cluster was rendered from."""
        ...

    def routes(self) -> dict[str, str]:
        """Base URLs by route: the balancer and each node that answers."""
        ...

    def containers(self) -> dict[str, Container]:
        """The project's containers by service."""
        ...

    def log_of(self, container: Container, tail: int | Literal["all"] = "all") -> str:
        """What a container printed."""
        ...

    def query(self, sql: str) -> list[str]:
        """Run one SQL statement as the application's user; a line per row, its columns separated by tabs."""
        ...
