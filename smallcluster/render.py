"""Settings in, files out: one env file per container, the balancer's configuration, Compose's own variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from smallcluster import envfile, files, variables
from smallcluster.envfile import Line
from smallcluster.errors import AskedWronglyError
from smallcluster.paths import CHECKOUT
from smallcluster.settings import Database, Settings

NGINX_TEMPLATE = CHECKOUT / "nginx" / "nginx.conf.j2"

DEFAULT_HOLD = 30
"""Seconds that a node holds an empty poll where its environment does not say (published default)."""
LONGEST_ASKED = 60
"""Seconds that a worker may ask for, whatever the node's default."""

ONE_SHOT_AND_LOOP = ("bootstrap", "scheduler")
"""Containers beside the nodes that run the server's image and need the nodes' environment."""


def render(settings: Settings) -> list[Path]:
    """Write every rendered file under the cluster's state folder; returns their paths.

    Env files are mode 0600. Raises AskedWronglyError where a value can't be used in a configuration.
    """
    written = render_env(settings)
    nginx = settings.folder / "nginx" / "nginx.conf"
    files.write_public(nginx, nginx_conf(settings))
    return [*written, nginx]


def render_env(settings: Settings) -> list[Path]:
    """Write the env files alone; returns their paths."""
    written = []
    for name, values in env_files(settings).items():
        path = settings.folder / "env" / f"{name}.env"
        files.write_private(path, envfile.text_of(values, f"Rendered for {name} by `invoke render`."))
        written.append(path)
    return written


def env_files(settings: Settings) -> dict[str, dict[str, str]]:
    """The environment of each container by name: nodes, bootstrap, scheduler, database, redis."""
    rendered = {name: _values(server_lines(settings, name)) for name in server_containers(settings)}
    rendered["database"] = _database_environment(settings)
    rendered["redis"] = {"REDISCLI_AUTH": settings.value("REDIS_PASSWORD")}
    return rendered


def server_containers(settings: Settings) -> tuple[str, ...]:
    """Every container that runs the server's image."""
    return settings.node_names + ONE_SHOT_AND_LOOP


def server_lines(settings: Settings, name: str) -> dict[str, Line]:
    """The lines of one server container: the shared ones, then its own on top."""
    lines = {key: line for key, line in settings.lines.items() if key not in variables.DATABASE_ONLY}
    lines["DW_SERVER_ID"] = Line("DW_SERVER_ID", name, f"node {name}", "node")
    return lines


def explain(settings: Settings) -> Iterator[tuple[str, Line]]:
    """Yield (container, line) for every rendered server line; shared lines once, as container "all"."""
    for _, line in sorted(settings.lines.items()):
        yield ("database" if line.name in variables.DATABASE_ONLY else "all"), line
    for name in server_containers(settings):
        for line in server_lines(settings, name).values():
            if line.layer == "node":
                yield name, line


def nginx_conf(settings: Settings) -> str:
    """The balancer's configuration; its read timeout is derived from the nodes' long-poll hold."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(  # noqa: S701 - nginx configuration, not HTML
        loader=FileSystemLoader(NGINX_TEMPLATE.parent), undefined=StrictUndefined, keep_trailing_newline=True
    )
    template = environment.get_template(NGINX_TEMPLATE.name)
    return template.render(nodes=settings.node_names, poll_seconds=max(poll_hold(settings), LONGEST_ASKED))


def poll_hold(settings: Settings) -> int:
    """How long a node holds an empty poll at most, in seconds. Raises AskedWronglyError where it is no number."""
    line = settings.lines.get("DW_WORKER_POLL_TIMEOUT")
    if line is None:
        return DEFAULT_HOLD
    try:
        hold = int(line.value)
    except ValueError:
        hold = -1
    if not 0 <= hold <= 3600:
        raise AskedWronglyError(
            f"{line.where}: DW_WORKER_POLL_TIMEOUT={line.value} is not a number of seconds from 0 to 3600.",
            then=f"correct {line.where}, then repeat the command.",
        )
    return hold


def _values(lines: Mapping[str, Line]) -> dict[str, str]:
    return {name: line.value for name, line in lines.items()}


def _database_environment(settings: Settings) -> dict[str, str]:
    """The database container's own variables, in the official images' names."""
    user, password = settings.value("DB_USERNAME"), settings.value("DB_PASSWORD")
    database = settings.value("DB_DATABASE")
    if settings.db is Database.PGSQL:
        return {"POSTGRES_USER": user, "POSTGRES_PASSWORD": password, "POSTGRES_DB": database}
    return {
        "MYSQL_USER": user,
        "MYSQL_PASSWORD": password,
        "MYSQL_DATABASE": database,
        "MYSQL_ROOT_PASSWORD": settings.value("DB_ROOT_PASSWORD"),
    }
