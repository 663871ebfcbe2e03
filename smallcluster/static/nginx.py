"""What a balancer's nginx file must say: HTTP alone, every node, nobody bound to one, and no request sent twice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smallcluster.errors import AskedWronglyError
from smallcluster.render import LONGEST_ASKED
from smallcluster.static.base import MOST_NODES, static
from smallcluster.verdicts import Judgement, Verdict, broken, holds, unknown

STICKY = ("ip_hash", "hash", "sticky", "sticky_cookie_insert")
"""Directives of an upstream that bind a client to a node."""
KEPT = ("authorization", "x-namespace", "x-durable-workflow-protocol-version",
        "x-durable-workflow-control-plane-version", "content-type")  # fmt: skip
"""Headers that a node must get as they were sent."""
READ_TIMEOUT = "60s"
"""nginx's own default of proxy_read_timeout."""
_ADDRESS = re.compile(r"[\d.]+(:|/|\Z)|\[|unix:|localhost\b")
_TIME = re.compile(r"(\d+)(ms|s|m|h|d)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, None: 1.0}


@dataclass(frozen=True)
class Directive:
    """One directive: its words, where it stands, and what its block holds."""

    name: str
    args: tuple[str, ...]
    where: str
    block: tuple[Directive, ...] = ()

    @property
    def told(self) -> str:
        """As a person reads it, with file and line."""
        return f"{self.where}: {' '.join((self.name, *self.args))}"


@dataclass(frozen=True)
class Proxied:
    """A proxy_pass and the blocks around it, the innermost first."""

    to: Directive
    around: tuple[tuple[Directive, ...], ...]

    def effective(self, name: str) -> list[Directive]:
        """The directives of a name that count here: those of the innermost block that has any, as nginx inherits."""
        levels = ([one for one in block if one.name == name] for block in self.around)
        return next(filter(None, levels), [])


@dataclass(frozen=True)
class Nginx:
    """A whole configuration, its includes put in. `nodes` are the hosts that it must know, where that is known."""

    top: tuple[Directive, ...]
    nodes: tuple[str, ...] = ()

    @property
    def proxied(self) -> list[Proxied]:
        """Every place that passes requests on."""
        return list(_proxied(self.top, ()))

    @property
    def upstreams(self) -> Mapping[str, Directive]:
        """The groups of servers by name."""
        blocks = [one for http in self.top if http.name == "http" for one in http.block]
        return {one.args[0]: one for one in blocks if one.name == "upstream" and one.args}

    def behind(self, place: Proxied) -> Directive | None:
        """The upstream that a place passes to; None where it names a host itself."""
        target = place.to.args[0].partition("://")[2].partition("/")[0] if place.to.args else ""
        return self.upstreams.get(target)


def _proxied(block: tuple[Directive, ...], around: tuple[tuple[Directive, ...], ...]) -> Iterator[Proxied]:
    for one in block:
        if one.name == "proxy_pass":
            yield Proxied(one, (block, *around))
        yield from _proxied(one.block, (block, *around))


def read(path: Path) -> Nginx:
    """Read a configuration with its includes. Raises AskedWronglyError with file:line where that can't be done."""
    import crossplane

    if not path.is_file():
        raise AskedWronglyError(f"{path}: there is no such file.", then="check the name, then repeat the command.")
    told: dict[str, Any] = crossplane.parse(str(path), combine=True, check_ctx=False, check_args=False)
    for error in told["errors"]:
        where = f"{error['file']}:{error['line']}" if error["line"] else error["file"]
        raise AskedWronglyError(
            f"{where}: nginx could not read this either.",
            seen=str(error["error"]),
            why="a slip in the file, or an include that is not on this machine.",
            then="correct it (`nginx -t` says the same), then repeat the command.",
        )
    return Nginx(_directives(told["config"][0]["parsed"]))


def _directives(parsed: Sequence[Mapping[str, Any]]) -> tuple[Directive, ...]:
    return tuple(
        Directive(
            one["directive"], tuple(one["args"]), f"{one['file']}:{one['line']}", _directives(one.get("block", ()))
        )
        for one in parsed
    )


def _where(parsed: Mapping[str, Any]) -> str:
    return f"{parsed['file']}:{parsed['line']}"


def seconds(text: str) -> float | None:
    """A length of time as nginx writes it, such as 90, 75s or 5m; None for another text."""
    found = _TIME.fullmatch(text)
    return float(found[1]) * _UNITS[found[2]] if found else None


def _each(seen: Nginx, wrong: Callable[[Proxied], Sequence[Directive]], expected: str, cause: str) -> Judgement:
    """Judge every place that passes requests on: `wrong` gives the lines that are."""
    places = seen.proxied
    if not places:
        return unknown(cause="no proxy_pass in this file: it is no balancer's configuration.")
    lines = [line.told for place in places for line in wrong(place)]
    if lines:
        return broken(*dict.fromkeys(lines), expected=expected, cause=cause, then="correct the file by line")
    return holds(*(place.to.told for place in places))


@static("nginx-passes-http-only", "operator.http-only")
def nginx_passes_http_only(seen: Nginx) -> Judgement:
    """The balancer passes HTTP on, and nothing else."""
    others = [one.told for one in seen.top if one.name in ("stream", "mail")]
    if others:
        return broken(
            *others, expected="an http block alone", cause="a database or Redis is reachable through the balancer.",
            then="remove the block",
        )  # fmt: skip
    return _each(seen, lambda _: (), "", "")


@static("nginx-passes-to-every-node", "shape.balancer")
def nginx_passes_to_every_node(seen: Nginx) -> Judgement:
    """The balancer passes to an upstream of two or three nodes, all of them in use."""
    open_ones = [line.told for place in seen.proxied for line in _untold(seen, place)]

    def wrong(place: Proxied) -> Sequence[Directive]:
        servers = _servers(seen, place)
        idle = [one for one in servers if {"down", "backup"} & set(one.args)]
        alone = servers if len(servers) == 1 and not _untold(seen, place) else []
        alone = alone or (servers if set(seen.nodes) - set(map(_host, servers)) else [])
        return idle or alone or (servers if len(servers) > MOST_NODES else [])

    judged = _each(seen, wrong, "an upstream with two or three servers, none down or backup",
                   "the balancer knows one node, keeps one back, or has more than the contract supports.")  # fmt: skip
    if judged.verdict is Verdict.HOLDS and open_ones:
        return unknown(*open_ones, cause="a name may stand for several nodes: a running cluster shows whether it does.")
    return judged


def _host(server: Directive) -> str:
    """The host of a server line."""
    return server.args[0].partition(":")[0] if server.args else ""


def _servers(seen: Nginx, place: Proxied) -> list[Directive]:
    """The server lines of an upstream; the proxy_pass itself where it names a host."""
    upstream = seen.behind(place)
    return [place.to] if upstream is None else [one for one in upstream.block if one.name == "server"]


def _untold(seen: Nginx, place: Proxied) -> list[Directive]:
    """Of a single server: the line, where it has a name or a variable and not an address."""
    servers = _servers(seen, place)
    host = servers[0].args[0].rpartition("://")[2] if len(servers) == 1 and servers[0].args else "127.0.0.1"
    return [] if _ADDRESS.match(host) else servers


@static("nginx-binds-nobody-to-a-node", "api.no-sticky-sessions")
def nginx_binds_nobody_to_a_node(seen: Nginx) -> Judgement:
    """No client is bound to a node."""

    def wrong(place: Proxied) -> Sequence[Directive]:
        upstream = seen.behind(place)
        return [one for one in (upstream.block if upstream else ()) if one.name in STICKY]

    return _each(seen, wrong, f"none of {', '.join(STICKY)}", "stickiness hides that a node keeps state of its own.")


@static("nginx-keeps-headers", "shape.balancer")
def nginx_keeps_headers(seen: Nginx) -> Judgement:
    """Authorization, namespace and protocol headers reach the node as they were sent."""

    def wrong(place: Proxied) -> Sequence[Directive]:
        dropped = [one for one in place.effective("proxy_pass_request_headers") if one.args == ("off",)]
        return dropped + [one for one in place.effective("proxy_set_header") if _changes(one)]

    return _each(seen, wrong, "no change to " + ", ".join(KEPT), "requests arrive without token, namespace or version.")


def _changes(one: Directive) -> bool:
    name, value = (one.args[0].lower(), one.args[1]) if len(one.args) == 2 else ("", "")
    return name in KEPT and value != f"$http_{name.replace('-', '_')}"


@static("nginx-sends-no-request-twice", "shape.balancer", "api.one-owner")
def nginx_sends_no_request_twice(seen: Nginx) -> Judgement:
    """A POST that a node may have seen is not sent to another."""

    def wrong(place: Proxied) -> Sequence[Directive]:
        return [one for one in place.effective("proxy_next_upstream") if "non_idempotent" in one.args]

    return _each(seen, wrong, "proxy_next_upstream without non_idempotent",
                 "a start or completion that was acknowledged once is done again at another node.")  # fmt: skip


@static("nginx-outwaits-long-polls", "shape.balancer")
def nginx_outwaits_long_polls(seen: Nginx) -> Judgement:
    """The balancer waits longer for an answer than a node may hold a poll."""

    def wrong(place: Proxied) -> Sequence[Directive]:
        stated = place.effective("proxy_read_timeout")
        waits = seconds(stated[0].args[0] if stated and stated[0].args else READ_TIMEOUT)
        return [] if waits is not None and waits > LONGEST_ASKED else stated or [place.to]

    return _each(seen, wrong, f"proxy_read_timeout above {LONGEST_ASKED}s (nginx's own default is {READ_TIMEOUT})",
                 "held polls are cut by the balancer: workers see 504 instead of an empty poll.")  # fmt: skip


@static("nginx-passes-answers-at-once", "shape.balancer")
def nginx_passes_answers_at_once(seen: Nginx) -> Judgement:
    """An answer is passed to the worker as it comes, not kept in the balancer's buffers."""

    def wrong(place: Proxied) -> Sequence[Directive]:
        stated = place.effective("proxy_buffering")
        return [] if stated and stated[0].args == ("off",) else stated or [place.to]

    return _each(seen, wrong, "proxy_buffering off (nginx's own default is on)",
                 "a task that waits in a buffer has a lease that runs already.")  # fmt: skip
