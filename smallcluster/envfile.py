"""Reads one env file with python-dotenv's parser, and refuses what Compose and the server would read differently."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from smallcluster import variables
from smallcluster.errors import AskedWronglyError

_BARE = re.compile(r"[A-Za-z0-9_./:@%+,=*{}\[\]-]*\Z")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Line:
    """One setting and where it came from (`env/cluster.env:14`, `exported`, `made at first render`)."""

    name: str
    value: str
    where: str
    layer: str

    @property
    def shown(self) -> str:
        """The value as a person may see it."""
        if variables.is_sensitive(self.name) and self.value:
            return "(hidden)"
        return self.value


def read(path: Path, label: str) -> dict[str, Line]:
    """Read an env file into lines by name; `label` is how messages call the file.

    Raises AskedWronglyError with file:line for a malformed line, a duplicate name, an unknown `DW_` name,
    or a value that can't travel safely.
    """
    lines: dict[str, Line] = {}
    for number, name, value in _bindings(path, label):
        where = f"{label}:{number}"
        if name in lines:
            raise AskedWronglyError(
                f"{where}: {name} is set a second time.",
                seen=f"first at {lines[name].where}",
                why="a copied line; the last one would silently win.",
                then="remove one of the two lines, then repeat the command.",
            )
        lines[name] = checked(Line(name, value, where, label))
    return lines


def _bindings(path: Path, label: str) -> Iterable[tuple[int, str, str]]:
    for number, binding in numbered(_text(path, label)):
        named = binding.key is not None and _NAME.match(binding.key) and binding.value is not None
        if binding.error or (binding.key is not None and not named):
            raise _malformed(f"{label}:{number}", binding.original.string.strip().splitlines()[0])
        if binding.key is not None and binding.value is not None:
            yield number, binding.key, binding.value


def numbered(text: str) -> Iterator[tuple[int, Binding]]:
    """What an env file binds, each with its line: that of its name, not of the blank lines which the parser adds."""
    for binding in parse_stream(StringIO(text)):
        said = binding.original.string
        yield binding.original.line + said[: len(said) - len(said.lstrip())].count("\n"), binding


def _text(path: Path, label: str) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")  # some editors begin with a mark
    except FileNotFoundError:
        raise AskedWronglyError(
            f"{label}: there is no such file.", then="check the name, or restore it with git."
        ) from None
    except (OSError, UnicodeDecodeError) as problem:
        raise AskedWronglyError(
            f"{label}: it can't be read.",
            seen=str(problem),
            why="it is no file, belongs to somebody else, or is not UTF-8 text.",
            then="name an env file that can be read, then repeat the command.",
        ) from None


def _malformed(where: str, seen: str) -> AskedWronglyError:
    name = re.match(r"(?:export\s+)?([A-Za-z0-9_]*)", seen)
    return AskedWronglyError(
        f"{where}: this line is not NAME=value.",
        seen=f"it begins with {name[1]!r}" if name and name[1] else "it begins with no name",
        why="a missing =, a stray quote, or a line broken in two.",
        then="write NAME=value on one line (quote a value that has spaces), then repeat the command.",
    )


def checked(line: Line) -> Line:
    """Return the line, or refuse it: a name the server doesn't know, a value that Compose would change."""
    if variables.is_unknown(line.name):
        near = variables.nearest(line.name)
        raise AskedWronglyError(
            f"{line.where}: {line.name} is not a variable that the server reads.",
            why=f"a typing slip for {near}." if near else "a typing slip, or a name from another product.",
            then=f"correct {line.where}, then repeat the command.",
        )
    if "$" in line.value:
        raise AskedWronglyError(
            f"{line.where}: the value of {line.name} contains a $.",
            why="Compose would expand it, so the node would see another value than this file says.",
            then="choose a value without $, then repeat the command.",
        )
    if any(ord(character) < 32 or character in "'\\" for character in line.value):
        raise AskedWronglyError(
            f"{line.where}: the value of {line.name} contains a line break, control character, quote or backslash.",
            why="env files can't carry it to every reader unchanged.",
            then="choose another value, then repeat the command.",
        )
    return line


def text_of(values: Mapping[str, str], header: str) -> str:
    """Write values as an env file that python-dotenv, Compose and a shell read alike."""
    lines = [f"# {header}"]
    lines += [f"{name}={_quoted(value)}" for name, value in sorted(values.items())]
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    return value if _BARE.match(value) else f"'{value}'"
