"""What cluster is meant: env layers in, one frozen `Settings` out. Nothing downstream reads the environment."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from smallcluster import envfile, files, locks, variables
from smallcluster.envfile import Line
from smallcluster.errors import AskedWronglyError
from smallcluster.paths import CHECKOUT, STATE, checkout_id

ENV_FOLDER = CHECKOUT / "env"


HOSTS = {"database": "DB_HOST", "redis": "REDIS_HOST"}
"""The variable that names each service's host: the service itself, or one outside of the cluster."""


_PASSWORDS = {"database": "DB_PASSWORD", "redis": "REDIS_PASSWORD"}


class Database(StrEnum):
    """The two durable databases of the contract; SQLite is not a clustered backend (note)."""

    MYSQL = "mysql"
    PGSQL = "pgsql"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides what is rendered and run.

    `lines` are the shared values by name with their origin; node values are added by `render`.
    `notices` are sentences for the person: each override by an exported variable, each one ignored.
    """

    db: Database
    nodes: int
    lines: Mapping[str, Line]
    notices: tuple[str, ...] = ()
    state: Path = field(default=STATE)

    @property
    def node_names(self) -> tuple[str, ...]:
        """The API nodes: server-a, server-b and, with three, server-c."""
        return ("server-a", "server-b", "server-c")[: self.nodes]

    @property
    def outside(self) -> tuple[str, ...]:
        """The services that the env layers name outside of this cluster: database, redis, both or none."""
        return tuple(service for service, name in HOSTS.items() if self.value(name) not in ("", service))

    @property
    def own(self) -> tuple[str, ...]:
        """The services of HOSTS that are a part of this cluster."""
        return tuple(service for service in HOSTS if service not in self.outside)

    @property
    def folder(self) -> Path:
        """Where this cluster's rendered files and secrets are."""
        return self.state / self.db.value

    @property
    def project(self) -> str:
        """The Compose project's name: one per checkout and database, so that clusters run side by side."""
        return project_name(self.db)

    def value(self, name: str) -> str:
        """The shared value of `name`, or an empty string where no layer declares it."""
        line = self.lines.get(name)
        return line.value if line else ""

    @property
    def secret_values(self) -> tuple[str, ...]:
        """Every secret in use, longest first, so that reports and logs can hide them."""
        found = {line.value for name, line in self.lines.items() if variables.is_sensitive(name) and line.value}
        return tuple(sorted(found, key=len, reverse=True))


def project_name(db: Database) -> str:
    """The Compose project of this checkout's cluster over `db`."""
    return f"smallcluster-{checkout_id()}-{db.value}"


def load(  # noqa: PLR0913 - what a person chooses, and the places that a test chooses
    db: str | None,
    *,
    nodes: int = 2,
    exported: Mapping[str, str],
    published: bool = False,
    env_folder: Path = ENV_FOLDER,
    state: Path = STATE,
) -> Settings:
    """Build Settings from the env layers, lowest first: cluster < database < published < local < exported.

    The layer `published` counts where the published server's image runs. `exported` is the process environment; only
    names that a layer declares count. Secrets left empty are made once and kept under `state`. Raises
    AskedWronglyError for anything that can't be meant.
    """
    database = database_named(db)
    if nodes not in (2, 3):
        raise _outside_the_contract(nodes)
    lines = _layers((database.value, *(["published"] if published else [])), env_folder)
    notices = _apply_exported(lines, exported)
    _refuse_contradiction(database, lines.get("DB_CONNECTION"))
    with locks.held(files.folder(state / database.value) / "secrets.lock"):
        _fill_secrets(lines, state / database.value / "secrets.env")
    return Settings(db=database, nodes=nodes, lines=lines, notices=tuple(notices), state=state)


def database_named(db: str | None) -> Database:
    """Turn `--db` into a Database; raises AskedWronglyError that names the choices."""
    choices = " or ".join(f"--db={choice.value}" for choice in Database)
    if not db:
        raise AskedWronglyError("No database was named.", then=f"repeat the command with {choices}.")
    try:
        return Database(db)
    except ValueError:
        near = "pgsql" if db.lower().startswith(("pg", "post")) else "mysql"
        raise AskedWronglyError(
            f"--db={db} is not a database of the small-cluster contract.",
            why="SQLite and others are outside the contract, which knows MySQL and PostgreSQL only.",
            then=f"choose {choices} (most likely --db={near}).",
        ) from None


def nodes_asked(nodes: str) -> int:
    """Turn `--nodes` into a number; nothing asked for is 0. Raises AskedWronglyError for anything but 2 or 3."""
    if not nodes:
        return 0
    if nodes not in ("2", "3"):
        raise _outside_the_contract(nodes)
    return int(nodes)


def _outside_the_contract(nodes: object) -> AskedWronglyError:
    return AskedWronglyError(
        f"--nodes={nodes} is outside the contract.",
        why="the small cluster has 2 or 3 API nodes.",
        then="repeat the command with --nodes=2 or --nodes=3.",
    )


def _layers(chosen: Iterable[str], env_folder: Path) -> dict[str, Line]:
    lines: dict[str, Line] = {}
    for name in ("cluster.env", *(f"{layer}.env" for layer in chosen), "local.env"):
        path = env_folder / name
        if name == "local.env" and not path.exists():
            continue
        for line in envfile.read(path, f"{env_folder.name}/{name}").values():
            if line.name in variables.PER_NODE:
                raise AskedWronglyError(
                    f"{line.where}: {line.name} stands in a layer that all nodes share.",
                    why="it must be unique on each node; the harness sets it when it renders a node's file.",
                    then=f"remove {line.where}, then repeat the command.",
                )
            lines[line.name] = line
    return lines


def _apply_exported(lines: dict[str, Line], exported: Mapping[str, str]) -> list[str]:
    notices = []
    for name, value in sorted(exported.items()):
        if name in lines and value != lines[name].value:
            before = lines[name]
            lines[name] = envfile.checked(Line(name, value, f"exported {name}", "exported"))
            notices.append(f"exported {name}={lines[name].shown} overrides {before.where} ({before.shown})")
        elif name not in lines and name.startswith("DW_"):
            why = "it is set per node" if name in variables.PER_NODE else "no env layer declares it"
            notices.append(f"exported {name} is ignored: {why}")
    return notices


def _refuse_contradiction(database: Database, line: Line | None) -> None:
    if line is None:
        raise AskedWronglyError(
            f"No env layer sets DB_CONNECTION for --db={database.value}.",
            then=f"write DB_CONNECTION={database.value} in env/{database.value}.env, then repeat the command.",
        )
    if line.value != database.value:
        raise AskedWronglyError(
            f"{line.where}: DB_CONNECTION={line.value} contradicts --db={database.value}.",
            why="a value left over from another database's run.",
            then=f"remove it (or `unset DB_CONNECTION`), or repeat the command with --db={line.value}.",
        )


def _made(name: str) -> str:
    """A new secret; the published server's framework wants its key as 32 bytes in base64."""
    if name == "APP_KEY":
        return "base64:" + base64.b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_hex(20)


def _fill_secrets(lines: dict[str, Line], store: Path) -> None:
    """Give every empty secret its kept value, making the missing ones once; an outside service's are its own."""
    theirs = {_PASSWORDS[service] for service, host in HOSTS.items() if host in lines and lines[host].value != service}
    empty = [name for name in lines if name in variables.SECRETS - theirs and not lines[name].value]
    kept = envfile.read(store, str(store)) if store.exists() else {}
    for line in kept.values():
        if not line.value:
            raise AskedWronglyError(
                f"{line.where}: {line.name} is empty.",
                why="the file was edited or cut short; a cluster that runs was started with another value.",
                then=f"invoke down --db={store.parent.name}, remove {store}, then repeat the command.",
            )
    made = {name: _made(name) for name in empty if name not in kept}
    if made:
        values = {name: line.value for name, line in kept.items()} | made
        files.write_private(store, envfile.text_of(values, "Made once by `invoke render`; never shown."))
    for name in empty:
        value = made.get(name) or kept[name].value
        lines[name] = Line(name, value, f"{lines[name].where}, made at first render", "secrets.env")
