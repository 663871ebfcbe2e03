"""Reads a machine's apt sources, and derives from them what setup adds. Mirrors come from there, never from here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from smallcluster.errors import MachineCannotError

APT = Path("/etc/apt")
MIRROR_VARIABLE = "SMALLCLUSTER_DEBIAN_MIRROR"
OWN_NAME = "smallcluster"
"""The stem of the files that setup adds to apt's configuration."""


@dataclass(frozen=True, slots=True)
class Source:
    """One enabled source of binary packages. `signed_by` is a key file's path, or keys as deb822 lines."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""


def read_sources(apt: Path = APT) -> list[Source]:
    """Every enabled binary source of a machine, in apt's own order, less those that setup added."""
    found = parse_one_line(_text(apt / "sources.list"))
    for file in sorted((apt / "sources.list.d").glob("*")):
        if file.name.startswith(f"{OWN_NAME}-"):
            continue
        if file.suffix == ".list":
            found += parse_one_line(_text(file))
        elif file.suffix == ".sources":
            found += parse_deb822(_text(file))
    return found


def parse_one_line(text: str) -> list[Source]:
    """Sources of the form `deb [signed-by=FILE] URI SUITE COMPONENT...`."""
    pattern = re.compile(r"^\s*deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<rest>[^#\n]*)")
    found = []
    for line in text.splitlines():
        if match := pattern.match(line):
            signed = re.search(r"signed-by=(\S+)", match["options"] or "")
            components = tuple(match["rest"].split())
            found.append(Source((match["uri"],), (match["suite"],), components, signed[1] if signed else ""))
    return found


def parse_deb822(text: str) -> list[Source]:
    """Sources in paragraphs of `Field: value` lines; comments may stand between them, values go over lines."""
    found = []
    for fields in _paragraphs(text):
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in (
            "no",
            "false",
        ):
            continue
        uris, suites, components = (tuple(fields.get(key, "").split()) for key in ("uris", "suites", "components"))
        found.append(Source(uris, suites, components, fields.get("signed-by", "").strip("\n")))
    return found


def main_source(sources: Iterable[Source], suites: Sequence[str]) -> Source:
    """The source of a distribution's main archive: the first that has a suite of `suites`.

    Raises MachineCannotError where there is none.
    """
    for source in sources:
        if "main" in source.components and set(suites) & set(source.suites) and not _on_disc(source):
            return source
    raise MachineCannotError(
        f"This machine's apt sources name no main archive of {' or '.join(suites)}.",
        seen=f"looked in {APT}/sources.list and {APT}/sources.list.d/.",
        then="add the distribution's own archive to apt's sources, then invoke setup",
    )


def newer_suite_source(source: Source, suite: str, why: str) -> str:
    """The text of a deb822 source for another suite of the same archive, verified by the same keys."""
    lines = [f"# Written by `invoke setup`: {why}", "Types: deb", f"URIs: {' '.join(source.uris)}"]
    lines += [f"Suites: {suite}", "Components: main"]
    if source.signed_by:
        lines.append(f"Signed-By: {source.signed_by}" if "\n" not in source.signed_by else _key_lines(source))
    return "\n".join([*lines, "Targets: Packages", "Languages: none"]) + "\n"


def preferences(suite: str, packages: Sequence[str]) -> str:
    """The text of apt preferences that let these packages come from a suite, and nothing else ever."""
    return (
        f"Explanation: written by `invoke setup`: these packages come from {suite}, nothing else moves\n"
        f"Package: {' '.join(packages)}\nPin: release n={suite}\nPin-Priority: 990\n\n"
        f"Package: *\nPin: release n={suite}\nPin-Priority: -10\n"
    )


def debian_mirror(sources: Iterable[Source], distribution: str, suites: Sequence[str]) -> str:
    """The URL of a Debian archive to make base images from: the one that this machine itself uses.

    SMALLCLUSTER_DEBIAN_MIRROR goes first. Raises MachineCannotError where neither names one.
    """
    if named := os.environ.get(MIRROR_VARIABLE):
        return named
    if distribution != "debian":
        raise MachineCannotError(
            "Images must be built from Debian packages, and this machine's apt sources name no Debian archive.",
            why="no image registry answers, and this is another distribution.",
            then=f"export {MIRROR_VARIABLE}=<the URL of a Debian mirror>, then invoke setup",
        )
    uri = main_source(sources, suites).uris[0]
    return _from_list(Path(urlsplit(uri).path)) if uri.startswith("mirror+file:") else uri


def _from_list(mirrors: Path) -> str:
    """The first mirror of a list as cloud images have it."""
    for line in mirrors.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            return line.split()[0]
    raise MachineCannotError(f"{mirrors}, which apt's sources point to, names no mirror.", then="invoke setup")


def _paragraphs(text: str) -> Iterator[dict[str, str]]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for block in re.split(r"\n\s*\n", "\n".join(lines)):
        fields: dict[str, str] = {}
        key = ""
        for line in block.splitlines():
            if line[:1].isspace() and key:
                fields[key] += "\n" + line
            elif ":" in line:
                name, _, value = line.partition(":")
                key = name.strip().lower()
                fields[key] = value.strip()
        yield fields


def _key_lines(source: Source) -> str:
    return "Signed-By:\n" + source.signed_by.lstrip("\n")


def _on_disc(source: Source) -> bool:
    return all(uri.startswith(("cdrom:", "file:")) for uri in source.uris)


def _text(file: Path) -> str:
    return file.read_text() if file.is_file() else ""
