"""What each local image is made from, as a hash: an image whose label shows another hash is out of date."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from smallcluster.paths import CHECKOUT

RECIPE_LABEL = "io.smallcluster.recipe"
IMAGE_LABEL = "io.smallcluster.image"

IMAGES = CHECKOUT / "compose" / "images"
REFSERVER = CHECKOUT / "refserver"
BASE = "debian"
SERVER = "server"
PREVIOUS, UNFIT = "server_previous", "server_unfit"
RELEASES = (PREVIOUS, UNFIT)
"""Other releases of the bundled server: the one before, and a next one that can't be migrated to (releases.py)."""

_SHARED = (IMAGES / "apt-install", CHECKOUT / "scripts" / "build-base.sh")
_SOURCES = {
    BASE: (CHECKOUT / "scripts" / "build-base.sh",),
    SERVER: (
        *_SHARED,
        IMAGES / SERVER,
        REFSERVER / "pyproject.toml",
        REFSERVER / "requirements.lock",
        REFSERVER / "src",
    ),
}
for _name in RELEASES:
    _place = REFSERVER / "releases" / f"{_name.removeprefix('server_')}.toml"
    _SOURCES[_name] = (*_SOURCES[SERVER], IMAGES / "release", _place)
_MADE = ("__pycache__", ".egg-info", ".pyc")


def kind_of(name: str) -> str:
    """What is inside: each release of the server is a server."""
    return SERVER if name in RELEASES else name


def sources(name: str) -> list[Path]:
    """The files that decide what the local image called `name` contains, in a stable order."""
    places = _SOURCES.get(name, (*_SHARED, IMAGES / name))
    return sorted(file for place in places for file in _files(place))


def recipe(name: str) -> str:
    """Twelve hex digits over the names, modes and contents of an image's sources."""
    digest = hashlib.sha256()
    for file in sources(name):
        executable = bool(file.stat().st_mode & 0o100)
        digest.update(f"{file.relative_to(CHECKOUT)}\0{executable}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    elif place.is_dir():
        for file in place.rglob("*"):
            if file.is_file() and not any(part.endswith(_MADE) for part in file.parts):
                yield file
