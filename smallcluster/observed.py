"""What checks and evidence need of a running cluster: to look at it, and to ask its database."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from smallcluster.containers import Container
from smallcluster.further_node import FurtherNode
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

    def another_database(self, name: str) -> AbstractContextManager[str]:
        """Make one more, empty database in the same server for as long as it is needed, and give its name."""
        ...

    def further_node(self, environment: Mapping[str, str], purpose: str) -> AbstractContextManager[FurtherNode]:
        """Start one more node, which gets no traffic, for as long as it is needed."""
        ...

    def stopped(self, node: str) -> AbstractContextManager[None]:
        """Have one of the nodes stopped meanwhile."""
        ...
