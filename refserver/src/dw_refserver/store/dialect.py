"""SQL functions that PostgreSQL and MySQL spell differently."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import Boolean, Float, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from dw_refserver.store.tables import Moment


class _Spelt(FunctionElement[Any]):
    """A function with a spelling per dialect, `{0}`, `{1}` standing for its arguments."""

    spellings: ClassVar[dict[str, str]]


@compiles(_Spelt)
def _spell(element: _Spelt, compiler: SQLCompiler, **kw: Any) -> str:
    return element.spellings[compiler.dialect.name].format(*(compiler.process(part, **kw) for part in element.clauses))


class now(_Spelt):  # noqa: N801 - reads as the SQL function it is
    """The database's clock when the statement began: the only clock that leases and due times are held against."""

    type, name, inherit_cache = Moment(), "now", True
    spellings: ClassVar = {"postgresql": "statement_timestamp()", "mysql": "utc_timestamp(6)"}


class later(_Spelt):  # noqa: N801
    """The database's clock plus a number of seconds, given as a bound parameter."""

    type, name, inherit_cache = Moment(), "later", True
    spellings: ClassVar = {
        "postgresql": "statement_timestamp() + make_interval(secs => {0})",
        "mysql": "utc_timestamp(6) + interval ({0}) * 1000000 microsecond",
    }


class seconds_until(_Spelt):  # noqa: N801
    """How far a moment lies ahead of the database's clock, in seconds; negative if it has passed."""

    type, name, inherit_cache = Float(), "seconds_until", True
    spellings: ClassVar = {
        "postgresql": "CAST(extract(epoch from {0} - statement_timestamp()) AS double precision)",
        "mysql": "timestampdiff(microsecond, utc_timestamp(6), {0}) / 1e6",
    }


class supports(_Spelt):  # noqa: N801
    """Whether a JSON list of type names, kept as text, is empty or holds a name."""

    type, name, inherit_cache = Boolean(), "supports", True
    spellings: ClassVar = {
        "postgresql": "({0} = '[]' OR jsonb_exists(CAST({0} AS jsonb), {1}))",
        "mysql": "({0} = '[]' OR {1} MEMBER OF (CAST({0} AS json)))",
    }


class rows_as_json(_Spelt):  # noqa: N801
    """The group's rows as JSON text: an array, in any order, of arrays of six columns and a moment in ISO-8601."""

    type, name, inherit_cache = Text(), "rows_as_json", True
    spellings: ClassVar = {
        "postgresql": "CAST(json_agg(json_build_array({0}, {1}, {2}, {3}, {4}, {5}, "
        "to_char({6} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))) AS text)",
        "mysql": "CAST(json_arrayagg(json_array({0}, {1}, {2}, {3}, {4}, {5}, "
        "date_format({6}, '%%Y-%%m-%%dT%%H:%%i:%%s.%%fZ'))) AS char)",
    }
