"""The folder that a run leaves behind: what was asked, what was seen, what was concluded. Secrets never enter it."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from smallcluster import api, engine, files, render
from smallcluster.errors import PersonError
from smallcluster.observed import Observed
from smallcluster.redaction import redact
from smallcluster.settings import Settings

KEPT_RUNS = 50
"""How many evidence folders stay; older ones go when a new one is made."""


@dataclass
class Evidence:
    """One run's evidence folder. The secrets are hidden in everything that enters."""

    folder: Path
    secrets: tuple[str, ...]
    incomplete: list[str] = field(default_factory=list)
    """Why states or logs are missing, where they are."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def exchange(self, exchange: api.Exchange) -> None:
        """Append one exchange to transcript.jsonl as it happens, so that a crash loses none."""
        line = json.dumps(self._hidden(api.transcript_of(exchange)), default=str, ensure_ascii=False)
        with self._lock, (self.folder / "transcript.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def json(self, name: str, value: object) -> None:
        """Keep a value as NAME.json."""
        text = json.dumps(self._hidden(value), indent=2, default=str, ensure_ascii=False)
        files.write_public(self.folder / f"{name}.json", text + "\n")

    def text(self, name: str, text: str) -> None:
        """Keep a text under a file name."""
        self._write(name, text)

    def line(self, name: str, text: str) -> None:
        """Append a line to a file, as it happens."""
        path = self.folder / name
        with self._lock, files.folder(path.parent).joinpath(path.name).open("a", encoding="utf-8") as stream:
            stream.write(redact(text, self.secrets) + "\n")

    def environment(self, settings: Settings) -> None:
        """Keep each container's environment, secrets hidden, and the balancer's configuration."""
        for name, values in render.env_files(settings).items():
            lines = (f"{key}={value}" for key, value in sorted(values.items()))
            self._write(f"env/{name}.env", "\n".join(lines) + "\n")
        self._write("nginx.conf", render.nginx_conf(settings))

    def _write(self, name: str, text: str) -> None:
        files.write_public(self.folder / name, redact(text, self.secrets))

    def _hidden(self, value: Any) -> Any:  # noqa: ANN401 - JSON values are anything
        """The value with the secrets hidden in every text it holds, before JSON escapes what is in them."""
        if isinstance(value, str):
            return redact(value, self.secrets)
        if isinstance(value, Mapping):
            return {self._hidden(key): self._hidden(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._hidden(one) for one in value]
        return value


def collect(kept: Evidence, cluster: Observed) -> None:
    """Keep states and logs of whatever is there. Trouble on the way is noted and must not hide the first problem."""
    try:
        found = cluster.containers()
        kept.json("containers", {name: asdict(container) for name, container in found.items()})
        collect_logs(kept, cluster)
    except PersonError as problem:
        kept.incomplete.append(str(problem))
    except Exception as failure:
        trouble = engine.trouble(failure)
        if trouble is None:
            raise
        kept.incomplete.append(str(trouble))


def collect_logs(kept: Evidence, cluster: Observed, folder: str = "logs", only: Collection[str] | None = None) -> None:
    """Keep everything that the containers printed, a file each; of all services, or of some."""
    for name, container in cluster.containers().items():
        if only is None or name in only:
            kept.text(f"{folder}/{name}.log", cluster.log_of(container))


def begin(verb: str, settings: Settings, now: datetime, name: str = "") -> Evidence:
    """Make the folder of a run that starts now, point `latest-<name>` at it, and let the oldest go.

    The name is the database's where none is given.
    """
    home, name = files.folder(settings.state / "evidence"), name or settings.db.value
    folder = _new_folder(home, f"{now:%Y%m%d-%H%M%S}-{verb}-{name}")
    _point(home / f"latest-{name}", folder)
    _forget_old(home, folder)
    return Evidence(folder=folder, secrets=settings.secret_values)


def again(folder: Path, settings: Settings) -> Evidence:
    """The folder of a run that was cut off, to be gone on with; made where somebody removed it."""
    return Evidence(folder=files.folder(folder), secrets=settings.secret_values)


def _new_folder(home: Path, name: str) -> Path:
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        candidate = home / (name + suffix)
        try:
            candidate.mkdir()
        except FileExistsError:
            continue
        return candidate
    raise RuntimeError(f"a hundred runs named {name} in one second")


def _point(link: Path, folder: Path) -> None:
    temporary = link.with_name(f".{link.name}-{folder.name}")
    temporary.symlink_to(folder.name)
    temporary.replace(link)


def _forget_old(home: Path, new: Path) -> None:
    """Remove the oldest by their names; never the new one, whose name is old where the clock was set back."""
    import shutil

    runs = sorted(path for path in home.iterdir() if path.is_dir() and not path.is_symlink() and path != new)
    for path in runs[: 1 - KEPT_RUNS]:
        shutil.rmtree(path)


def image_records(images: Mapping[str, Any]) -> dict[str, Any]:
    """The images under test as plain data: name, origin, id, digest, and what the program inside says."""
    return {name: asdict(image) for name, image in images.items()}
