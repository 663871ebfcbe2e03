"""SQL functions that PostgreSQL and MySQL spell differently."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, Float
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from dw_refserver.store.tables import Moment


class now(FunctionElement[Any]):  # noqa: N801 - reads as the SQL function it is
    """The database's clock when the statement began: the only clock that leases and due times are held against."""

    type = Moment()
    inherit_cache = True
    name = "now"


class later(FunctionElement[Any]):  # noqa: N801
    """The database's clock plus a number of seconds, given as a bound parameter."""

    type = Moment()
    inherit_cache = True
    name = "later"


@compiles(now, "postgresql")
def _now_postgres(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    return "statement_timestamp()"


@compiles(now, "mysql")
def _now_mysql(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    return "utc_timestamp(6)"


@compiles(later, "postgresql")
def _later_postgres(element: later, compiler: SQLCompiler, **kw: Any) -> str:
    return f"statement_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kw)})"


@compiles(later, "mysql")
def _later_mysql(element: later, compiler: SQLCompiler, **kw: Any) -> str:
    return f"utc_timestamp(6) + interval ({compiler.process(element.clauses, **kw)}) * 1000000 microsecond"


class seconds_until(FunctionElement[Any]):  # noqa: N801
    """How far a moment lies ahead of the database's clock, in seconds; negative if it has passed."""

    type = Float()
    inherit_cache = True
    name = "seconds_until"


@compiles(seconds_until, "postgresql")
def _seconds_until_postgres(element: seconds_until, compiler: SQLCompiler, **kw: Any) -> str:
    moment = compiler.process(element.clauses, **kw)
    return f"CAST(extract(epoch from {moment} - statement_timestamp()) AS double precision)"


@compiles(seconds_until, "mysql")
def _seconds_until_mysql(element: seconds_until, compiler: SQLCompiler, **kw: Any) -> str:
    return f"timestampdiff(microsecond, utc_timestamp(6), {compiler.process(element.clauses, **kw)}) / 1e6"


class supports(FunctionElement[bool]):  # noqa: N801
    """Whether a JSON list of type names, kept as text, is empty or holds a name."""

    type = Boolean()
    inherit_cache = True
    name = "supports"


@compiles(supports, "postgresql")
def _supports_postgres(element: supports, compiler: SQLCompiler, **kw: Any) -> str:
    names, name = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"({names} = '[]' OR jsonb_exists(CAST({names} AS jsonb), {name}))"


@compiles(supports, "mysql")
def _supports_mysql(element: supports, compiler: SQLCompiler, **kw: Any) -> str:
    names, name = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"({names} = '[]' OR {name} MEMBER OF (CAST({names} AS json)))"
