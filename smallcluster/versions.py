"""Asks the program inside an image which version it is. Tags lie: a "mysql" may be a MariaDB."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smallcluster.errors import MachineCannotError
from smallcluster.paths import STATE
from smallcluster.recipes import IMAGE_LABEL, SERVER, kind_of

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image as EngineImage

REMEMBERED = STATE / "image-versions.json"
"""What images said, by service and image id: an id names a content, so its answer never changes."""
ANSWER_SECONDS = 30
_WRITING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Question:
    """How a program is asked, what its answer looks like, and what it is called."""

    command: tuple[str, ...]
    answer: re.Pattern[str]
    product: str


QUESTIONS: Mapping[str, Question] = {
    "mysql": Question(("mysqld", "--version"), re.compile(r"Ver (\d\S+) for (?!.*MariaDB)"), "MySQL"),
    "pgsql": Question(("postgres", "--version"), re.compile(r"\(PostgreSQL\) (\d\S*)"), "PostgreSQL"),
    "redis": Question(("redis-server", "--version"), re.compile(r"^Redis server v=(\d\S*)"), "Redis"),
    "nginx": Question(("nginx", "-v"), re.compile(r"nginx version: nginx/(\d\S*)"), "nginx"),
    "server": Question(("dw-refserver", "version"), re.compile(r"(\d+\.\d\S*)"), "the reference server"),
}


def judge(service: str, ref: str, said: str) -> str:
    """The version in what a program said. Raises MachineCannotError when it is another product."""
    question = QUESTIONS[kind_of(service)]
    found = question.answer.search(said)
    if found and "mariadb" not in said.lower():
        return found[1]
    raise MachineCannotError(
        f"The image {ref} is not {question.product}.",
        seen=f"`{' '.join(question.command)}` in it says: {said.strip()[:300] or 'nothing'}",
        why="the tag was given to another product's image.",
        then=f"docker image rm {ref}, then invoke setup",
    )


def version_of(client: DockerClient, service: str, ref: str, image: EngineImage) -> str:
    """The version of the program in `image`, asked once for each image id.

    A published server image holds no reference server to ask: its label is what there is, and the word
    "label" says so; a running node tells more. Raises MachineCannotError when another product is inside.
    """
    if kind_of(service) == SERVER and image.labels.get(IMAGE_LABEL) != SERVER:
        stated = image.labels.get("org.opencontainers.image.version")
        return f"{stated} (label)" if stated else "not stated"
    return remembered(service, str(image.id)) or _asked(client, service, ref, str(image.id))


def _asked(client: DockerClient, service: str, ref: str, image_id: str) -> str:
    version = judge(service, ref, ask(client, service, ref, image_id))
    remember(service, image_id, version)
    return version


def ask(client: DockerClient, service: str, ref: str, image_id: str) -> str:
    """Start the image's program with the question for its version, and return what it prints."""
    from docker.errors import DockerException

    program, *arguments = QUESTIONS[kind_of(service)].command
    try:
        return run(client, image_id, program, arguments)
    except DockerException as error:
        raise MachineCannotError(
            f"The image {ref} can't say its version.",
            seen=str(error)[:300],
            why=f"it holds no {program}, or is made for another processor.",
            then=f"docker image rm {ref}, then invoke setup",
        ) from error


def run(client: DockerClient, image_id: str, program: str, arguments: Sequence[str]) -> str:
    """Run a program of an image to its end, without a network, and return what it prints. Leaves no container."""
    container = client.containers.create(
        image_id,
        list(arguments),
        entrypoint=[program],
        environment={"PYTHONDONTWRITEBYTECODE": "1"},
        labels={IMAGE_LABEL: "version-question"},
        network_mode="none",
    )
    try:
        container.start()
        container.wait(timeout=ANSWER_SECONDS)
        return bytes(container.logs(stdout=True, stderr=True)).decode(errors="replace")
    finally:
        container.remove(force=True, v=True)


def remembered(service: str, image_id: str) -> str | None:
    """What an image has said before about a subject, or None."""
    return _read(REMEMBERED).get(f"{service} {image_id}")


def remember(service: str, image_id: str, version: str) -> None:
    """Keep what an image has said about a subject."""
    REMEMBERED.parent.mkdir(parents=True, exist_ok=True)
    written = REMEMBERED.with_suffix(f".{os.getpid()}")
    with _WRITING:
        known = _read(REMEMBERED) | {f"{service} {image_id}": version}
        written.write_text(json.dumps(known, indent=1) + "\n")
        written.replace(REMEMBERED)


def _read(file: Path) -> dict[str, str]:
    """What was remembered; a file that can't be read is worth nothing, for every entry can be asked again."""
    try:
        known: Any = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return {str(key): str(value) for key, value in known.items()} if isinstance(known, dict) else {}
