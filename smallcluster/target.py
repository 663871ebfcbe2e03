"""A cluster that someone else runs, as a file of theirs describes it: where it is, and with which tokens it is asked.

The file is an env file: BALANCER_URL, SERVER_A_URL and so on for each node, the tokens of its environment (DW_…_TOKEN),
CA_FILE where its certificates are signed by somebody of its own, NAMESPACE for the smoke's work, and whatever of the
server's settings the checks may go by (DB_CONNECTION, APP_VERSION, DW_WORKFLOW_TASK_TIMEOUT, …).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn
from urllib.parse import urlsplit

from smallcluster import envfile
from smallcluster.containers import BALANCER, Container
from smallcluster.envfile import Line
from smallcluster.errors import AskedWronglyError
from smallcluster.further_node import FurtherNode
from smallcluster.images import Image
from smallcluster.paths import STATE
from smallcluster.settings import Settings, database_named

NAMESPACE = "smallcluster"
"""Where the smoke works if the file names no other namespace. It is made and stays: the protocol removes none."""
_NODES = {"SERVER_A_URL": "server-a", "SERVER_B_URL": "server-b", "SERVER_C_URL": "server-c"}
_OWN = {"BALANCER_URL", "CA_FILE", "NAMESPACE", *_NODES}
_TOKENS = ("DW_AUTH_TOKEN", "DW_WORKER_TOKEN", "DW_OPERATOR_TOKEN", "DW_ADMIN_TOKEN")


@dataclass(frozen=True)
class Target:
    """Somebody else's cluster. It has addresses, and nothing of it can be seen but what it answers."""

    settings: Settings
    urls: Mapping[str, str]
    """Base URLs by route: the balancer, and each node that may be asked."""
    verify: bool | str = True
    """A file of certificates, or True for whoever this machine trusts."""
    read_only: bool = False
    """Whether nothing may be written there."""
    images: Mapping[str, Image] = field(default_factory=dict)

    def routes(self) -> dict[str, str]:
        """The base URL of the balancer and of each node that may be asked."""
        return dict(self.urls)

    def containers(self) -> dict[str, Container]:
        """None: nobody here sees its engine."""
        return {}

    def log_of(self, container: Container, tail: int | Literal["all"] = "all") -> str:  # noqa: ARG002 - as Observed has it
        """Not to be had."""
        return _out_of_reach(f"{container.service}'s log")

    def query(self, sql: str) -> list[str]:
        """Not to be had."""
        return _out_of_reach(f"the database ({sql})")

    def another_database(self, name: str) -> AbstractContextManager[str]:
        """Not to be had."""
        return _out_of_reach(f"the database ({name})")

    def further_node(self, environment: Mapping[str, str], purpose: str) -> AbstractContextManager[FurtherNode]:
        """Not to be had."""
        return _out_of_reach(f"the engine ({purpose}, {len(environment)} variables)")

    def stopped(self, node: str) -> AbstractContextManager[None]:
        """Not to be had."""
        return _out_of_reach(f"the engine ({node})")


def _out_of_reach(what: str) -> NoReturn:
    raise RuntimeError(f"{what} of a target is out of reach; the check that asked must say what it needs")


def read(path: Path, *, nodes_unreachable: bool, read_only: bool) -> Target:
    """Read a target's file. Raises AskedWronglyError with file:line for what can't be used or is not there."""
    lines = envfile.read(path, str(path))
    urls = {BALANCER: _url(lines, "BALANCER_URL", path)}
    nodes = {node: _url(lines, name, path) for name, node in _NODES.items() if name in lines}
    if not nodes_unreachable:
        _refuse_too_few(nodes, path)
        urls |= nodes
    if not any(lines[name].value for name in _TOKENS if name in lines):
        raise AskedWronglyError(
            f"{path}: no token is there.",
            seen=f"none of {', '.join(_TOKENS)}",
            then="write the tokens that the cluster's nodes have, then repeat the command.",
        )
    settings = _settings(lines, len(nodes), path, read_only=read_only)
    return Target(settings, urls, _certificates(lines, path), read_only)


def _settings(lines: Mapping[str, Line], nodes: int, path: Path, *, read_only: bool) -> Settings:
    if "DB_CONNECTION" not in lines:
        raise AskedWronglyError(
            f"{path}: DB_CONNECTION is not set.",
            why="what is found is kept under the database's name.",
            then=f"write DB_CONNECTION=mysql or DB_CONNECTION=pgsql in {path}, then repeat the command.",
        )
    own = lines["NAMESPACE"].value if "NAMESPACE" in lines else ""
    name = own or ("" if read_only else NAMESPACE)
    kept = {key: line for key, line in lines.items() if key not in _OWN}
    if name:
        kept["DW_DEFAULT_NAMESPACE"] = Line("DW_DEFAULT_NAMESPACE", name, str(path), "target")
    return Settings(db=database_named(lines["DB_CONNECTION"].value), nodes=max(nodes, 2), lines=kept, state=STATE)


def _url(lines: Mapping[str, Line], name: str, path: Path) -> str:
    line = lines.get(name)
    if line is None:
        raise AskedWronglyError(f"{path}: {name} is not set.", then=f"write {name}=https://…, then repeat the command.")
    parts = urlsplit(line.value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.path not in ("", "/"):
        raise AskedWronglyError(
            f"{line.where}: {name} is not the address of a server.",
            seen=line.value,
            why="it must be http:// or https://, a host, perhaps a port, and no path.",
            then=f"correct {line.where}, then repeat the command.",
        )
    return line.value.rstrip("/")


def _refuse_too_few(nodes: Mapping[str, str], path: Path) -> None:
    if len(nodes) < 2:
        raise AskedWronglyError(
            f"{path}: {len(nodes)} of two or three nodes have an address.",
            seen=", ".join(nodes) or "none of SERVER_A_URL, SERVER_B_URL, SERVER_C_URL",
            why="most of the contract is about what crosses nodes, past the balancer.",
            then="write them, or repeat the command with --nodes-unreachable: much is unknown then.",
        )


def _certificates(lines: Mapping[str, Line], path: Path) -> bool | str:
    line = lines.get("CA_FILE")
    if line is None or not line.value:
        return True
    file = path.parent / line.value
    if not file.is_file():
        raise AskedWronglyError(
            f"{line.where}: there is no file {file}.",
            why="CA_FILE is read from where the target's file is.",
            then=f"correct {line.where}, then repeat the command.",
        )
    return str(file)
