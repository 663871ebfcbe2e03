"""The look that setup and doctor share: everything that a cluster needs of a machine, without touching it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field

from smallcluster import engine
from smallcluster.errors import MachineCannotError
from smallcluster.images import SERVICES, Image, usable
from smallcluster.setup.machine import (
    EngineState,
    Machine,
    Tools,
    look_at_engine,
    look_at_machine,
    look_at_tools,
)
from smallcluster.setup.report import Item

FIX = "invoke setup"


@dataclass(frozen=True, slots=True)
class Look:
    """What was found. An image is None where it is missing or out of date; troubles are keyed by service."""

    machine: Machine
    tools: Tools
    engine: EngineState
    images: Mapping[str, Image | None] = field(default_factory=dict)
    troubles: Mapping[str, MachineCannotError] = field(default_factory=dict)


def look() -> Look:
    """Look at the machine, its tools, its engine, and the engine's images."""
    state = look_at_engine()
    images, troubles = _look_at_images() if state.trouble is None else ({}, {})
    return Look(look_at_machine(), look_at_tools(), state, images, troubles)


def items(seen: Look, done: Collection[str] = ()) -> tuple[Item, ...]:
    """A look as report items. `done` names the items that this run supplied."""
    found = [_engine_item(seen.engine), _tool_item("compose", seen.tools.compose)]
    found += [_tool_item("buildx", seen.tools.buildx)]
    found += [_image_item(seen, service) for service in SERVICES]
    return tuple(_marked(item, done) for item in found)


def _look_at_images() -> tuple[dict[str, Image | None], dict[str, MachineCannotError]]:
    images: dict[str, Image | None] = {}
    troubles: dict[str, MachineCannotError] = {}
    with closing(engine.connect()) as client, ThreadPoolExecutor(len(SERVICES)) as pool:
        asked = {service: pool.submit(usable, client, service) for service in SERVICES}
        for service, answer in asked.items():
            try:
                images[service] = answer.result()
            except MachineCannotError as trouble:
                troubles[service] = trouble
    return images, troubles


def _engine_item(state: EngineState) -> Item:
    if state.trouble is None:
        return Item("engine", "present", f"Docker Engine {state.version} at {engine.endpoint().url}")
    return Item("engine", "missing", state.trouble.what, state.trouble.then)


def _tool_item(name: str, version: str) -> Item:
    return Item(name, "present", version) if version else Item(name, "missing", "not found", FIX)


def _image_item(seen: Look, service: str) -> Item:
    name = f"image {service}"
    if seen.engine.trouble:
        return Item(name, "missing", "the engine doesn't answer, so it can't be asked", FIX)
    if trouble := seen.troubles.get(service):
        return Item(name, "missing", f"{trouble.what} {trouble.seen}", trouble.then)
    image = seen.images.get(service)
    if image is None:
        return Item(name, "missing", "not in the engine, or older than its recipe", FIX)
    digest = image.digest.removeprefix("sha256:")[:12]
    return Item(name, "present", f"{image.version}, {image.ref} ({image.origin}, {digest})")


def _marked(item: Item, done: Collection[str]) -> Item:
    supplied = item.name in done and item.state == "present"
    return Item(item.name, "done", item.seen) if supplied else item
