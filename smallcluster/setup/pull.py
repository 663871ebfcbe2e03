"""Pulls published images, where a registry answers at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smallcluster.progress import Progress, Step

if TYPE_CHECKING:
    from docker import DockerClient

PROBE_SECONDS = 3
"""How long a registry may take to say anything at all."""
PULL_SILENCE = 30
"""Seconds without a word after which a pull has failed."""


@dataclass(frozen=True, slots=True)
class Registry:
    """Whether a registry answered, and its words or the network's."""

    answers: bool
    said: str


def probe(client: DockerClient, ref: str) -> Registry:
    """Let the engine ask the registry of `ref` about it: one question, PROBE_SECONDS at most.

    The engine asks, not this process, because its mirrors, proxies and certificates are those that count.
    """
    import docker
    import requests

    usual, client.api.timeout = client.api.timeout, PROBE_SECONDS
    try:
        client.images.get_registry_data(ref)
    except docker.errors.APIError as error:
        refused = error.status_code in (401, 403, 404)
        return Registry(refused, str(error.explanation or error))
    except requests.RequestException:
        return Registry(False, f"silent for {PROBE_SECONDS} s")
    finally:
        client.api.timeout = usual
    return Registry(True, f"it knows {ref}")


def pull(client: DockerClient, ref: str, step: Step) -> str | None:
    """Pull an image; returns None, or why it failed."""
    import docker
    import requests

    client.api.timeout = PULL_SILENCE
    try:
        for word in client.api.pull(ref, stream=True, decode=True):
            if "error" in word:
                return str(word["error"])
            step.detail = described(ref, word)
    except (docker.errors.DockerException, requests.RequestException) as error:
        return str(error)
    return None


def described(ref: str, word: Mapping[str, Any]) -> str:
    """One line of an engine's pull progress, readable."""
    parts = (ref, word.get("id"), word.get("status"), word.get("progress"))
    return " ".join(str(part) for part in parts if part)


class Puller:
    """Asks once whether a registry answers, and pulls if it does. What fails is said, and built instead."""

    def __init__(self, progress: Progress, client: DockerClient) -> None:
        self.progress, self.client = progress, client
        self.answers: bool | None = None

    def get(self, ref: str | None) -> bool:
        """Whether `ref` is in the engine now, pulled by this call."""
        if ref is None or not self._registry_answers(ref):
            return False
        with self.progress.step(f"pulling {ref}") as step:
            failed = pull(self.client, ref, step)
            step.done(f"failed, so it will be built here: {failed}" if failed else "pulled")
        return failed is None

    def _registry_answers(self, ref: str) -> bool:
        if self.answers is None:
            with self.progress.step("asking whether an image registry answers") as step:
                registry = probe(self.client, ref)
                none = f"no registry answered ({registry.said}): building locally from Debian packages"
                step.done(f"yes: {registry.said}" if registry.answers else none)
            self.answers = registry.answers
        return self.answers
