"""Rows that travel to the database as one JSON parameter.

A statement with one parameter is compiled once, whatever the number of rows, and can stand inside a larger one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import orjson
from sqlalchemy import Integer, Subquery, Table, column, text
from sqlalchemy.types import Double, Float, TypeEngine


def from_json(
    table: Table, names: Sequence[str], parameter: str, *, postgres: bool, **extra: type[TypeEngine[Any]]
) -> Subquery:
    """A subquery with the named columns of `table`, read from the JSON array bound to `parameter`.

    `extra` names columns that the table doesn't have, with their type.
    """
    types = {name: table.c[name].type for name in names} | {name: kind() for name, kind in extra.items()}
    sql = _postgres(parameter, types) if postgres else _mysql(parameter, types)
    return text(sql).columns(*(column(name, kind) for name, kind in types.items())).subquery(f"{parameter}_rows")


def to_json(rows: Sequence[Any]) -> str:
    """What `from_json` reads: dataclass instances as an array of objects."""
    return orjson.dumps([asdict(row) for row in rows]).decode()


def _postgres(parameter: str, types: dict[str, TypeEngine[Any]]) -> str:
    columns = ", ".join(f"{name} {_name_of(kind, 'text', 'integer')}" for name, kind in types.items())
    return f"SELECT * FROM json_to_recordset(CAST(:{parameter} AS json)) AS given({columns})"  # noqa: S608 - own names


def _mysql(parameter: str, types: dict[str, TypeEngine[Any]]) -> str:
    each = [f"{name} {_name_of(kind, 'longtext', 'int')} PATH '$.{name}'" for name, kind in types.items()]
    return f"SELECT * FROM JSON_TABLE(:{parameter}, '$[*]' COLUMNS ({', '.join(each)})) AS given"  # noqa: S608


def _name_of(kind: TypeEngine[Any], words: str, whole: str) -> str:
    if isinstance(kind, Float | Double):
        return "double precision"
    return whole if isinstance(kind, Integer) else words
