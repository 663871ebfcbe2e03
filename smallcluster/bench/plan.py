"""How much is measured: the verb's flags, checked before anything is started."""

from __future__ import annotations

from dataclasses import dataclass

from smallcluster.errors import AskedWronglyError, MachineCannotError

LOOK_SECONDS = 10.0
"""How long /api/health is looked at while the polls are held; less where opening them took more of the hold."""
SPARE_SECONDS = 1.0
"""Left between the end of the look and the first poll's answer."""
CONNECTIONS = 8
"""Concurrent loops of the cycles, each on a connection of its own."""
WAKES_A_RUN = 20
"""Wakes tried for each direction, for each of the runs asked for."""
SHORTEST_HOLD = 3
MOST_POLLS = 14_000
"""Below a container's limit of open files (compose/cluster.yaml)."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`runs` of the cycles, each `seconds` long; `polls` idle ones, held for `hold` seconds."""

    runs: int
    seconds: float
    polls: int
    hold: int


def plan_asked(*, runs: str, seconds: str, polls: str, hold: str, longest_hold: int) -> Plan:
    """Turn the flags into a plan; `longest_hold` is what the cluster's own limit allows.

    Raises AskedWronglyError for anything that can't be measured like that.
    """
    return Plan(
        runs=_number("runs", runs, 1, 100),
        seconds=_number("seconds", seconds, 1, 60),
        polls=_number("polls", polls, 1, MOST_POLLS),
        hold=_number("hold", hold, SHORTEST_HOLD, longest_hold),
    )


def _number(flag: str, given: str, least: int, most: int) -> int:
    if not given.isdecimal() or not least <= int(given) <= most:
        raise AskedWronglyError(
            f"--{flag}={given} is not a number from {least} to {most}.",
            then=f"repeat the command with --{flag}={most}.",
        )
    return int(given)


def make_room(polls: int) -> None:
    """Raise our own limit of open files; raises MachineCannotError where it, or the ports, don't suffice."""
    import resource

    needed = polls + 200
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise MachineCannotError(
            f"{polls} idle polls need {needed} open files, and this process may have {hard}.",
            why="the hard limit of open files (`ulimit -Hn`).",
            then=f"raise it, or repeat the command with --polls={max(hard - 200, 1)}.",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    if polls > (ports := _ephemeral_ports()):
        raise MachineCannotError(
            f"{polls} idle polls to one node need as many local ports, and there are {ports}.",
            why="the range in /proc/sys/net/ipv4/ip_local_port_range.",
            then=f"widen it, or repeat the command with --polls={ports // 2}.",
        )


def _ephemeral_ports() -> int:
    from pathlib import Path

    path = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not path.exists():  # not Linux: the range is told elsewhere, and connecting will tell
        return MOST_POLLS
    low, high = map(int, path.read_text().split())
    return high - low + 1
