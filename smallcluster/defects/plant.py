"""From a defect to the overlay that Compose merges over the topology, and the files that it mounts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smallcluster import files, render
from smallcluster.containers import BALANCER
from smallcluster.defects.base import Defect, by_container, containers_of
from smallcluster.paths import CHECKOUT
from smallcluster.settings import Settings
from smallcluster.static.own import MOUNTED

SERVER = CHECKOUT / "refserver" / "src" / "dw_refserver"
"""The bundled server's package, as its image was built from it."""
Overlay = dict[str, Any]


@dataclass(frozen=True)
class Planted:
    """A defect as an overlay. `file` is what Compose is given; None where there is nothing to merge."""

    defect: Defect
    overlay: Overlay
    file: Path | None


def plant(defect: Defect, settings: Settings, package: str) -> Planted:
    """Write the defect's files under the cluster's state folder. `package` is where the server's containers have it.

    Raises ValueError where a text that it replaces is not there exactly once.
    """
    folder = home(settings) / defect.id  # of its own: Compose recreates what has another path, not another content
    overlay: Overlay = {"services": {}}
    _merge(overlay, defect.compose)
    for name, values in by_container(defect.env, settings).items():
        _merge(overlay, {"services": {name: {"environment": values}}})
    for module in dict.fromkeys(patch.module for patch in defect.patches):
        _mount_module(defect, module, settings, f"{package}/{module}", overlay)
    if defect.nginx:
        files.write_public(folder / "nginx" / "nginx.conf", _edited_nginx(defect, settings))
        _merge(overlay, {"services": {BALANCER: {"volumes": [f"{folder / 'nginx'}:{MOUNTED}:ro"]}}})
    if not overlay["services"]:
        return Planted(defect, overlay, None)
    file = folder / "compose.json"  # JSON is YAML
    files.write_private(file, json.dumps(overlay, indent=2))
    return Planted(defect, overlay, file)


def home(settings: Settings) -> Path:
    """Where the files of planted defects are."""
    return settings.folder / "defects"


def _mount_module(defect: Defect, module: str, settings: Settings, target: str, overlay: Overlay) -> None:
    """Every container's own copy of the module, with the patches that are meant for it, over the image's."""
    patches = [patch for patch in defect.patches if patch.module == module]
    for name in containers_of([word for patch in patches for word in patch.on], settings):
        text = (SERVER / module).read_text()
        for patch in patches:
            if name in containers_of(patch.on, settings):
                text = patch.applied(text)
        path = home(settings) / defect.id / name / module
        files.write_public(path, text)
        _merge(overlay, {"services": {name: {"volumes": [f"{path}:{target}:ro"]}}})


def _edited_nginx(defect: Defect, settings: Settings) -> str:
    text = render.nginx_conf(settings)
    for edit in defect.nginx:
        text = edit.applied(text)
    return text


def _merge(into: Overlay, other: Mapping[str, Any]) -> None:
    """Merge as Compose does: mappings by key, lists one after the other, anything else replaced."""
    for key, value in other.items():
        if isinstance(value, Mapping):
            _merge(into.setdefault(key, {}), value)
        elif isinstance(value, list):
            into[key] = [*into.get(key, []), *value]
        else:
            into[key] = value
