"""The bundled server's other releases: the one before, and a next one that can't be migrated to.

Each is the server as it stands here, but for what its file in refserver/releases/ says: texts that were otherwise,
files that were not there or were there besides. So both sides of an upgrade come from one tree, and a text that no
longer stands there exactly once fails a unit test instead of making a release that never was.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from smallcluster.edits import Edit
from smallcluster.paths import CHECKOUT

FILES = CHECKOUT / "refserver" / "releases"
PACKAGE = CHECKOUT / "refserver" / "src" / "dw_refserver"
_KEYS = {"says", "version", "edit", "absent", "added"}


@dataclass(frozen=True)
class Release:
    """A release as it differs from the server that stands here. Paths are within its package."""

    name: str
    says: str
    version: str
    edits: tuple[tuple[str, Edit], ...]
    absent: tuple[str, ...]
    added: Mapping[str, str]

    def changed(self) -> dict[str, str]:
        """The files that are otherwise, or there besides, with their texts. Raises ValueError as an Edit does."""
        texts: dict[str, str] = {}
        for file, edit in self.edits:
            texts[file] = edit.applied(texts.get(file) or (PACKAGE / file).read_text())
        return texts | dict(self.added)


def file_of(name: str) -> Path:
    """The file that says how a release differs."""
    return FILES / f"{name.removeprefix('server_')}.toml"


def load(name: str) -> Release:
    """Read a release's file. Raises ValueError with the file's name for what it can't mean."""
    path = file_of(name)
    data = tomllib.loads(path.read_text())
    if odd := data.keys() - _KEYS:
        raise ValueError(f"{path.name}: {', '.join(sorted(odd))} is no key of a release")
    return Release(
        name=name,
        says=data["says"],
        version=data["version"],
        edits=tuple((one["file"], Edit(one["old"], one["new"])) for one in data.get("edit", [])),
        absent=tuple(data.get("absent", [])),
        added=data.get("added", {}),
    )


def lay_out(name: str, context: Path) -> None:
    """Fill the build context of a release's image: what is changed, the names of what is not there, its version."""
    release = load(name)
    for file, text in release.changed().items():
        path = context / "changed" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (context / "absent").write_text("".join(f"{file}\n" for file in release.absent))
    (context / "version").write_text(release.version)
