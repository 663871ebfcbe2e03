"""What a defect is, and how its file is read.

A file of the catalogue, named after the defect, says in TOML:

    says = "what is wrong, in a sentence"
    breaks = ["rule.id"]              # at least one, but for a defect that must change nothing
    caught_by = ["check-id"]          # every check that must turn red
    files_only = true                 # it is seen in the files, and never started
    [env.last-node]                   # variables by container, or by a word for several
    [[patch]]                         # a text of one of the server's modules, replaced by another
    on = ["nodes"]
    module = "store/tasks.py"
    old = '''…'''
    new = '''…'''
    [[nginx]]                         # the same for the balancer's configuration
    [compose.services.redis]          # merged over the topology
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smallcluster.contract import BY_ID
from smallcluster.edits import Edit
from smallcluster.settings import Settings

CATALOGUE = Path(__file__).parent / "catalogue"
_KEYS = {"says", "breaks", "caught_by", "files_only", "env", "patch", "nginx", "compose"}


@dataclass(frozen=True)
class Patch(Edit):
    """An edit of one of the server's modules, by its path in the package, in some containers."""

    module: str = ""
    on: tuple[str, ...] = ("nodes",)


@dataclass(frozen=True, kw_only=True)
class Defect:
    """One planted fault. `on`, and the keys of `env`, are containers or words for several; see `containers_of`."""

    id: str
    says: str
    breaks: tuple[str, ...]
    caught_by: tuple[str, ...]
    files_only: bool = False
    env: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    patches: tuple[Patch, ...] = ()
    nginx: tuple[Edit, ...] = ()
    compose: Mapping[str, Any] = field(default_factory=dict)

    @property
    def harmless(self) -> bool:
        """Whether it must change nothing: no check may turn red."""
        return not self.breaks


def load_all() -> tuple[Defect, ...]:
    """Every defect of the catalogue, by name."""
    return tuple(load(path) for path in sorted(CATALOGUE.glob("*.toml")))


def load(path: Path) -> Defect:
    """Read a defect's file. Raises ValueError with the file's name for what it can't mean."""
    data = tomllib.loads(path.read_text())
    odd = [*(data.keys() - _KEYS), *(set(data["breaks"]) - BY_ID.keys())]
    if odd:
        raise ValueError(f"{path.name}: {', '.join(odd)} is no key of a defect, or no rule")
    return Defect(
        id=path.stem,
        says=data["says"],
        breaks=tuple(data["breaks"]),
        caught_by=tuple(data["caught_by"]),
        files_only=data.get("files_only", False),
        env=data.get("env", {}),
        patches=tuple(Patch(**one | {"on": tuple(one.get("on", ["nodes"]))}) for one in data.get("patch", [])),
        nginx=tuple(Edit(**one) for one in data.get("nginx", [])),
        compose=data.get("compose", {}),
    )


def containers_of(words: Iterable[str], settings: Settings) -> list[str]:
    """The containers that are meant: `nodes`, `first-node`, `last-node`, `everywhere` (all servers), or a name."""
    nodes = list(settings.node_names)
    several = {
        "nodes": nodes,
        "first-node": nodes[:1],
        "last-node": nodes[-1:],
        "everywhere": [*nodes, "scheduler", "bootstrap"],
    }
    return list(dict.fromkeys(name for word in words for name in several.get(word, [word])))


def by_container(given: Mapping[str, Mapping[str, str]], settings: Settings) -> dict[str, dict[str, str]]:
    """The variables of each container that is meant."""
    found: dict[str, dict[str, str]] = {}
    for word, values in given.items():
        for name in containers_of([word], settings):
            found.setdefault(name, {}).update(values)
    return found
