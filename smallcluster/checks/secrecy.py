"""Does any answer or any log tell a secret: looked at last, when everything has been said."""

from __future__ import annotations

from dataclasses import dataclass

from smallcluster import variables
from smallcluster.checks.base import Live, Need, check
from smallcluster.settings import Settings
from smallcluster.verdicts import Judgement, broken, holds, unknown

LOG_LINES = 5000
"""How much of each log is read, from its end."""
SHORTEST = 8
"""A shorter secret may stand anywhere by chance."""


@dataclass(frozen=True)
class Told:
    """Where a secret stood, each with the name of the variable that holds it; and what was looked at."""

    leaks: tuple[str, ...]
    looked: str
    secrets: int


def told_in_answers(live: Live) -> Told:
    """Look for each secret in every answer so far."""
    secrets = _secrets(live.settings)
    leaks = (f"{where}: the value of {name}" for where, name in live.heard.leaks(secrets))
    return Told(tuple(dict.fromkeys(leaks)), f"{live.heard.answers} answers", len(secrets))


def told_in_logs(live: Live) -> Told:
    """Look for each secret in every container's log."""
    secrets, leaks, counts = _secrets(live.settings), [], []
    for service, container in sorted(live.cluster.containers().items()):
        log = live.cluster.log_of(container, tail=LOG_LINES)
        counts.append(f"{service} {log.count(chr(10))}")
        leaks += [f"{service}'s log: the value of {name}" for name, value in secrets.items() if value in log]
    return Told(tuple(leaks), f"log lines: {', '.join(counts)}", len(secrets))


def _secrets(settings: Settings) -> dict[str, str]:
    """The secrets by the variable that holds each."""
    lines = {name: line.value for name, line in settings.lines.items() if variables.is_sensitive(name)}
    return {name: value for name, value in lines.items() if len(value) >= SHORTEST}


@check("no-secret-in-answers", "protocol.no-secret-told", probe=told_in_answers, alone=True)
def no_secret_in_answers(seen: Told) -> Judgement:
    """No token, key or password is in any answer"""
    return _judge(seen, "a node tells its environment, a request's headers or a connection's address.")


@check("no-secret-in-logs", "protocol.no-secret-told", probe=told_in_logs, needs=[Need.ENGINE], alone=True)
def no_secret_in_logs(seen: Told) -> Judgement:
    """No token, key or password is in any container's log"""
    return _judge(seen, "a container prints its environment, a request's headers or a connection's address.")


def _judge(seen: Told, cause: str) -> Judgement:
    if seen.leaks:
        return broken(*seen.leaks, seen.looked, expected="none of them anywhere", cause=cause, then="invoke logs")
    if not seen.secrets:
        return unknown(seen.looked, cause="no secret is known that could be looked for.")
    return holds(seen.looked)
