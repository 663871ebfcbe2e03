"""The files that this checkout's own cluster is started from, held against the contract before it is asked anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from smallcluster import static
from smallcluster.bodies import mappings, text
from smallcluster.compose import Compose
from smallcluster.containers import BALANCER
from smallcluster.errors import ClusterBrokenError
from smallcluster.redaction import redact
from smallcluster.settings import Settings
from smallcluster.static import composition, nginx, places
from smallcluster.static.base import Environments, rendered
from smallcluster.static.composition import Composition
from smallcluster.verdicts import Finding

MOUNTED = "/etc/nginx/smallcluster"
"""Where the balancer's container has its configuration (compose/cluster.yaml)."""


def findings(settings: Settings, compose: Compose) -> list[Finding]:
    """Judge the environments, the balancer's file and the composition, as they were rendered.

    Raises ClusterBrokenError where Compose can't read them.
    """
    whole = read(settings, compose)
    balancer = replace(nginx.read(configuration(whole)), nodes=settings.node_names)
    seen = told_by_line(whole.environments(), rendered(settings))
    return [
        *(one.run(seen) for one in static.OF_ENVIRONMENTS),
        *(one.run(balancer) for one in static.OF_NGINX),
        *(one.run(whole) for one in static.OF_COMPOSITION),
    ]


def read(settings: Settings, compose: Compose) -> Composition:
    """The composition of a cluster as Compose understands it."""
    outcome = compose.run(*composition.CONFIG)
    if outcome.status:
        raise ClusterBrokenError(
            "Compose can't read the cluster's own files.",
            seen=redact(outcome.tail, settings.secret_values),
            why="a rendered file was removed, or compose/ was changed.",
            then=f"`invoke render --db={settings.db.value}`, then repeat the command.",
        )
    files = [(f"compose/{file.name}", file) for file in compose.files]
    return composition.understood(places.read(files, "compose/"), outcome.output)


def configuration(whole: Composition) -> Path:
    """The file that the balancer's container reads."""
    volumes = mappings(whole.services[BALANCER].get("volumes"))
    folder = next(text(one.get("source")) for one in volumes if one.get("target") == MOUNTED)
    return Path(folder) / "nginx.conf"


def told_by_line(seen: Environments, lines: Environments) -> Environments:
    """The same values; where a rendered line says the same, with the file and line that it comes from."""
    files = {}
    for name, values in seen.files.items():
        ours = lines.files.get(name, {})
        files[name] = {
            key: ours[key] if key in ours and ours[key].value == line.value else line for key, line in values.items()
        }
    return Environments(files)
