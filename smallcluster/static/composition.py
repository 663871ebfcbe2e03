"""What a Compose file must say: data services private, one scheduler, one release, and nobody else who supervises.

Compose itself reads the file, so that anchors, includes, profiles and interpolation mean what they mean there. It
drops the lines on the way; places.py finds them again.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smallcluster import engine
from smallcluster.bodies import mapping, mappings, text
from smallcluster.envfile import Line
from smallcluster.errors import AskedWronglyError
from smallcluster.static import places
from smallcluster.static.base import Environments, static
from smallcluster.static.places import Places
from smallcluster.verdicts import Judgement, broken, holds, unknown

PASSES = ("schedule:evaluate", "activity:timeout-enforce", "history:prune")
DATA_IMAGES = re.compile(r"(?:.*/)?(mysql|mariadb|percona|postgres|pgsql|redis|valkey)[^/]*", re.IGNORECASE)
SUPERVISORS = {"supervisord", "pm2", "pm2-runtime", "s6-svscan", "runsvdir", "circusd", "systemd", "/sbin/init"}
SERVERS_SAY = {"DB_CONNECTION", "CACHE_STORE", "DW_SERVER_ID"}
"""A service with one of these in its environment runs the server's image."""
CONFIG = ("config", "--format", "json")
_SECONDS = 30.0


@dataclass(frozen=True)
class Composition:
    """The services of a Compose file as Compose understands it, and where they stand."""

    places: Places
    services: Mapping[str, Mapping[str, Any]]

    @property
    def servers(self) -> Mapping[str, Mapping[str, Any]]:
        """Every service that runs the server's image."""
        return {
            name: one for name, one in self.services.items() if SERVERS_SAY & mapping(one.get("environment")).keys()
        }

    @property
    def schedulers(self) -> Mapping[str, Mapping[str, Any]]:
        """The servers that run the maintenance passes, by their command."""
        return {name: one for name, one in self.servers.items() if _maintains(_command(one))}

    def environments(self) -> Environments:
        """The servers' environments, the scheduler and the bootstrap job under those names."""
        return Environments({_role(name, one): self._lines(name, one) for name, one in self.servers.items()})

    def _lines(self, name: str, service: Mapping[str, Any]) -> Mapping[str, Line]:
        values = mapping(service.get("environment"))
        return {
            key: Line(key, "" if value is None else str(value), self._where(name, key), self.places.label)
            for key, value in values.items()
        }

    def _where(self, name: str, variable: str) -> str:
        """The line that sets a variable, or else the one that names the file which does, with the service."""
        line = self.places.lines.get((name, "environment", variable))
        return line or f"{self.places.of(name, 'env_file')}, {name}"

    def told(self, name: str, *keys: str) -> str:
        """A service with its file and line: of the first of `keys` that stands there, or its own."""
        line = next((self.places.lines[name, key] for key in keys if (name, key) in self.places.lines), None)
        return f"{line or self.places.of(name)}: {name}"


def _command(service: Mapping[str, Any]) -> str:
    words = [*(service.get("entrypoint") or []), *(service.get("command") or [])]
    return " ".join(map(str, words))


def _maintains(command: str) -> bool:
    return "scheduler" in command or any(one in command for one in PASSES)


def _role(name: str, service: Mapping[str, Any]) -> str:
    command = _command(service)
    if _maintains(command):
        return "scheduler"
    return "bootstrap" if re.search(r"bootstrap|migrate", command) else name


def read(path: Path) -> Composition:
    """Have Compose read a file. Raises AskedWronglyError with its words, MachineCannotError where there is none."""
    if not path.is_file():
        raise AskedWronglyError(f"{path}: there is no such file.", then="check the name, then repeat the command.")
    if re.search(rb"^apiVersion:", path.read_bytes(), re.MULTILINE):
        raise AskedWronglyError(
            f"{path}: this is a Kubernetes manifest, not a Compose file.",
            why="Kubernetes and Helm are outside of the small cluster's contract.",
            then="check the Compose file of the cluster.",
        )
    command = [*engine.compose_command(), "--file", str(path), "--profile", "*", *CONFIG]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise AskedWronglyError(f"{path}: Compose did not read it within {_SECONDS:g} s.") from None
    if ran.returncode:
        raise AskedWronglyError(
            f"{path}: Compose can't read it.",
            seen=ran.stderr.strip()[-600:],
            why="a slip in the file, or a file or variable that it needs is not on this machine.",
            then=f"`{shlex.join(command[:-2])}` says the same; correct it, then repeat the command.",
        )
    return understood(places.read([(str(path), path)], str(path)), ran.stdout)


def understood(where: Places, told: str) -> Composition:
    """What Compose made of a file, as it tells it (`config --format json`)."""
    return Composition(where, mapping(json.loads(told).get("services")))


@static("compose-keeps-data-services-private", "operator.private-services")
def compose_keeps_data_services_private(seen: Composition) -> Judgement:
    """Database and Redis publish no port and share no network with the host."""
    private = {name: one for name, one in seen.services.items() if DATA_IMAGES.fullmatch(text(one.get("image")))}
    evidence = [
        f"{seen.told(name, 'ports', 'network_mode')}: {'; '.join(_openings(one)) or 'publishes nothing'}"
        for name, one in private.items()
    ]
    if not private:
        return unknown(cause="no database and no Redis in this file: whether theirs are private, no file here shows.")
    if any(list(_openings(one)) for one in private.values()):
        return broken(
            *evidence, expected="no ports and no host network", cause="a port that was opened to look inside.",
            then="remove ports from these services",
        )  # fmt: skip
    return holds(*evidence)


def _openings(service: Mapping[str, Any]) -> Iterator[str]:
    for port in mappings(service.get("ports")):
        yield f"publishes {port.get('published') or 'a free port'} for {port.get('target')}"
    if service.get("network_mode") == "host":
        yield "network_mode host"


@static("compose-runs-one-scheduler", "operator.one-scheduler", "outside.duplicate-schedulers", "scheduler.passes")
def compose_runs_one_scheduler(seen: Composition) -> Judgement:
    """One service, in one replica, runs the three maintenance passes."""
    found = {name: _command(one) for name, one in seen.schedulers.items()}
    evidence = [f"{seen.told(name, 'command', 'entrypoint')}: {command}" for name, command in found.items()]
    if not found:
        return unknown(cause="no service of this file runs the maintenance passes: nothing shows who does.")
    many = [name for name, one in seen.schedulers.items() if _replicas(one) > 1]
    partial = [name for name, command in found.items() if any(one in command for one in PASSES)
               and not all(one in command for one in PASSES)]  # fmt: skip
    if len(found) > 1 or many or partial:
        return broken(
            *evidence,
            expected="one service in one replica, with " + ", ".join(PASSES),
            cause="a pass is left out." if partial and len(found) == 1 else "the passes are run more than once.",
            then="leave one scheduler that runs all three",
        )
    return holds(*evidence)


def _replicas(service: Mapping[str, Any]) -> int:
    told = [service.get("scale"), mapping(service.get("deploy")).get("replicas")]
    return max((one for one in told if isinstance(one, int)), default=1)


@static("compose-runs-one-release", "shape.stop-the-world", "outside.rolling-upgrades")
def compose_runs_one_release(seen: Composition) -> Judgement:
    """Every service of the server runs the same image."""
    images = {name: text(one.get("image")) for name, one in seen.servers.items()}
    evidence = [f"{seen.told(name, 'image', 'build')}: {image or 'built here'}" for name, image in images.items()]
    if len(images) < 2:
        return unknown(*evidence, cause="fewer than two services of this file run the server.")
    if len(set(images.values())) > 1:
        return broken(
            *evidence, expected="one image for all", cause="an upgrade that was made for a part of the services.",
            then="name the same image everywhere",
        )  # fmt: skip
    return holds(*evidence)


@static("compose-replaces-nothing-one-by-one", "operator.stop-the-world")
def compose_replaces_nothing_one_by_one(seen: Composition) -> Judgement:
    """Nothing is configured to be updated while the rest serves."""
    key = ("deploy", "update_config")
    rolling = [f"{seen.places.of(name, *key)}: {name}: {'.'.join(key)}" for name, one in seen.servers.items()
               if mapping(one.get("deploy")).get("update_config")]  # fmt: skip
    if rolling:
        return broken(
            *rolling, expected="no update_config", cause="a rolling update, which the contract rules out.",
            then="remove it; upgrade by stopping everything",
        )  # fmt: skip
    return _of_servers(seen, "no update_config")


@static("compose-is-the-only-supervisor", "outside.supervisors", "outside.kubernetes")
def compose_is_the_only_supervisor(seen: Composition) -> Judgement:
    """No service of the server is run by a process supervisor or for an orchestrator."""
    wrong = [f"{seen.places.of(name, *keys)}: {name}: {told}" for name, one in seen.servers.items()
             for keys, told in _supervised(one)]  # fmt: skip
    if wrong:
        return broken(
            *wrong, expected="the server as the container's own program, on Compose alone",
            cause="a recipe for another way to run it.", then="run the server's own command",
        )  # fmt: skip
    return _of_servers(seen, "nobody else supervises it")


def _supervised(service: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What runs a service besides Compose, each with the keys that say so."""
    for key in ("entrypoint", "command"):
        for word in map(str, service.get(key) or []):
            yield from (((key,), one) for one in word.split() if {one, one.rpartition("/")[2]} & SUPERVISORS)
    for name in mapping(service.get("environment")):
        if name.startswith("KUBERNETES_"):
            yield ("environment", name), name
    if mapping(service.get("deploy")).get("mode") == "global":
        yield ("deploy", "mode"), "deploy.mode global (Swarm)"


def _of_servers(seen: Composition, told: str) -> Judgement:
    if not seen.servers:
        return unknown(cause="no service of this file has the server's environment (DB_CONNECTION, CACHE_STORE).")
    return holds(*(f"{seen.told(name)}: {told}" for name in seen.servers))
