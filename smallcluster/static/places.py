"""Where the services of a Compose file and their keys stand. Compose tells the values and drops the lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from smallcluster import envfile

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML was built with it: ten times as fast
_DEEP = 3
"""A service's name, its key, and the key under that: no finding is about more."""
Key = tuple[str, ...]


@dataclass(frozen=True)
class Places:
    """`FILE:LINE` by service and key, such as ("server-a", "environment", "DB_HOST")."""

    label: str
    lines: Mapping[Key, str] = field(default_factory=dict)

    def of(self, *keys: str) -> str:
        """The line of a key, or of the nearest thing around it that has one; the file alone where nothing has.

        A service that `extends` another, and a variable from outside of the file, have no line of their own here.
        """
        known = (self.lines[keys[:length]] for length in range(len(keys), 0, -1) if keys[:length] in self.lines)
        return next(known, self.label)


def read(files: Sequence[tuple[str, Path]], label: str) -> Places:
    """Find the places in Compose files, each with what messages call it; where two say the same key, the later counts.

    What this parser can't read has no lines: Compose is the one to refuse a file.
    """
    lines: dict[Key, str] = {}
    for called, path in files:
        try:
            lines.update(_of_file(called, path, frozenset()))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue
    return Places(label, lines)


def _of_file(called: str, path: Path, seen: frozenset[Path]) -> Iterator[tuple[Key, str]]:
    if path.resolve() in seen:
        return
    top = dict(_pairs(yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=_LOADER)))
    for one in _words(top.get("include"), "path"):
        yield from _of_file(str(Path(called).parent / one), path.parent / one, seen | {path.resolve()})
    for name, service in _named(top.get("services")):
        yield (name.value,), _place(called, name)
        yield from _of_env_files(name.value, called, path, service)
        yield from _of_keys((name.value,), called, service)


def _of_keys(above: Key, called: str, node: Node) -> Iterator[tuple[Key, str]]:
    if len(above) == _DEEP:
        return
    for name, value in _named(node):
        key = (*above, name.value)
        yield key, _place(called, name)
        yield from _of_keys(key, called, value)
    for item in _items(node):
        name, equals, _ = item.value.partition("=")
        if equals:  # `environment: [NAME=value]`
            yield (*above, name), _place(called, item)


def _of_env_files(name: str, called: str, path: Path, service: Node) -> Iterator[tuple[Key, str]]:
    for one in _words(dict(_pairs(service)).get("env_file"), "path"):
        file = path.parent / one
        if not file.is_file():  # its name is interpolated, or it isn't required: the line that names it must do
            continue
        for number, binding in envfile.numbered(file.read_text(encoding="utf-8-sig")):
            if binding.key:
                yield (name, "environment", binding.key), f"{Path(called).parent / one}:{number}"


def _words(node: Node | None, key: str) -> Iterator[str]:
    """`a`, `[a, b]`, `{path: a}` and `[{path: a}, {path: [a, b]}]`: Compose's ways to name files."""
    if isinstance(node, ScalarNode):
        yield node.value
    elif isinstance(node, SequenceNode):
        for one in node.value:
            yield from _words(one, key)
    elif isinstance(node, MappingNode):
        yield from _words(dict(_pairs(node)).get(key), key)


def _pairs(node: Node | None) -> Iterator[tuple[str, Node]]:
    yield from ((name.value, value) for name, value in _named(node))


def _named(node: Node | None) -> Iterator[tuple[ScalarNode, Node]]:
    """Each key of a mapping with its value; first what `<<` puts in, so that the mapping's own keys win."""
    if not isinstance(node, MappingNode):
        return
    for name, value in node.value:
        if name.value == "<<":
            for merged in value.value if isinstance(value, SequenceNode) else [value]:
                yield from _named(merged)
    yield from ((name, value) for name, value in node.value if isinstance(name, ScalarNode) and name.value != "<<")


def _items(node: Node) -> Iterator[ScalarNode]:
    if isinstance(node, SequenceNode):
        yield from (one for one in node.value if isinstance(one, ScalarNode))


def _place(called: str, node: Node) -> str:
    return f"{called}:{node.start_mark.line + 1}"
