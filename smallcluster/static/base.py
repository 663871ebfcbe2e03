"""What a static check is: a pure judge over files that were read, such as the server containers' environments."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from smallcluster import envfile
from smallcluster.contract import BY_ID
from smallcluster.envfile import Line
from smallcluster.errors import AskedWronglyError
from smallcluster.render import ONE_SHOT_AND_LOOP, server_containers, server_lines
from smallcluster.settings import Settings
from smallcluster.verdicts import Finding, Judgement

F = TypeVar("F")
MOST_NODES = 3
"""A small cluster has two or three (note)."""


@dataclass(frozen=True)
class Environments:
    """The lines of each container that runs the server's image, by the container's name."""

    files: Mapping[str, Mapping[str, Line]]

    @property
    def nodes(self) -> tuple[str, ...]:
        """The API nodes: whatever is not the bootstrap job or the scheduler."""
        return tuple(name for name in self.files if name not in ONE_SHOT_AND_LOOP)

    def value(self, container: str, name: str) -> str:
        """A variable's value; empty where it is not set."""
        line = self.files[container].get(name)
        return line.value if line else ""

    def told(self, container: str, name: str) -> str:
        """A variable with file and line, its value hidden where it is a secret."""
        line = self.files[container].get(name)
        return f"{line.where}: {name}={line.shown}" if line else f"{container}: {name} is not set"


@dataclass(frozen=True, kw_only=True)
class StaticCheck(Generic[F]):
    """A named check of files: the rules it proves, the judge that decides."""

    id: str
    title: str
    rules: tuple[str, ...]
    judge: Callable[[F], Judgement]

    def run(self, seen: F) -> Finding:
        """Judge what was read."""
        began = time.monotonic()
        judgement = self.judge(seen)
        seconds = time.monotonic() - began
        return Finding(check=self.id, title=self.title, rules=self.rules, judgement=judgement, seconds=seconds)


def static(identity: str, *rules: str) -> Callable[[Callable[[F], Judgement]], StaticCheck[F]]:
    """Make a StaticCheck of a judging function; its docstring's first line is the title.

    Raises KeyError at import for a rule that the contract doesn't have.
    """

    def make(judge: Callable[[F], Judgement]) -> StaticCheck[F]:
        for rule in rules:
            BY_ID[rule]
        title = (judge.__doc__ or "").strip().splitlines()[0].removesuffix(".")
        return StaticCheck(id=identity, title=title, rules=rules, judge=judge)

    return make


def environments(named: Mapping[str, Path]) -> Environments:
    """Read env files by container. Raises AskedWronglyError with file:line for what can't be read."""
    return Environments({name: envfile.read(path, str(path)) for name, path in named.items()})


def rendered(settings: Settings) -> Environments:
    """What `invoke render` would write for each container that runs the server's image."""
    return Environments({name: server_lines(settings, name) for name in server_containers(settings)})


def files_named(given: Sequence[str]) -> dict[str, Path]:
    """Read `NAME=FILE` words. Raises AskedWronglyError for another form, or for a name that comes twice."""
    found: dict[str, Path] = {}
    for word in given:
        name, equals, path = word.partition("=")
        if not equals or not name or not path or name in found:
            why = "the name was given before." if name in found else "it is not NAME=FILE."
            raise AskedWronglyError(
                f"--env={word} can't be used.", why=why, then="type --env=server-a=a.env --env=server-b=b.env"
            )
        found[name] = Path(path)
    return found


def shown(seen: Environments, containers: Iterable[str], names: Iterable[str]) -> list[str]:
    """Evidence: each of the variables in each of the containers."""
    return [seen.told(container, name) for name in names for container in containers]
