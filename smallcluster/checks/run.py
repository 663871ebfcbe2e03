"""Runs the checks of a live cluster, and leaves it as tidy as it can."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any
from urllib.parse import quote

from smallcluster import checks, interrupts, static
from smallcluster.bodies import mappings, text
from smallcluster.checks.base import Check, Live
from smallcluster.containers import BALANCER
from smallcluster.evidence import Evidence
from smallcluster.progress import Progress
from smallcluster.verdicts import Finding, Verdict

GOODBYES = 8
GOODBYE_SECONDS = 15.0
"""How many workflows are ended at a time, and when no further one is begun with: behind a balancer that sends some of
these requests to a node that hangs, each of them takes as long as an answer is waited for."""


def run_live(
    look: Callable[[Callable[[str], None]], Live], progress: Progress, kept: Evidence, findings: list[Finding]
) -> None:
    """Run every check of a live cluster, all at a time but those that must be alone, and tidy up after them."""
    before = len(findings)
    with progress.step(f"{len(checks.ALL)} checks") as step:
        live = look(step.say)
        try:
            for group in groups():
                step.say(f"{len(group)} side by side" if len(group) > 1 else group[0].id)
                findings.extend(one.hidden(kept.secrets) for one in side_by_side(live, group))
        finally:
            order = [*(check.id for check in static.ALL), *(check.id for check in checks.ALL)]
            findings.sort(key=lambda finding: order.index(finding.check))
            with interrupts.shielded():
                say_goodbye(live)
        waits = max(finding.waits for finding in findings)
        step.done(f"{count(findings[before:])}; the longest wait that a check states: {waits:g} s")


def count(findings: Sequence[Finding]) -> str:
    """How many hold, and how many do not."""
    holding = sum(finding.verdict is Verdict.HOLDS for finding in findings)
    return f"{holding} hold, {len(findings) - holding} do not"


def groups() -> list[list[Check[Any]]]:
    """All checks, by what runs at a time: what answers at all, then all that may run side by side, then each alone.

    Readiness has its own time limits in a node; asked for while everything else begins, a busy machine could miss them.
    """
    alone = [[check] for check in checks.ALL if check.alone]
    rest = [check for check in checks.ALL if not check.alone and check not in checks.FIRST]
    return [list(checks.FIRST), rest, *alone]


def side_by_side(live: Live, wanted: Sequence[Check[Any]]) -> Iterator[Finding]:
    """Run checks all at a time, and give each finding as it comes; whoever stops asking does not wait for the rest."""
    pool = ThreadPoolExecutor(max_workers=len(wanted))  # they spend their time waiting for answers
    running: list[Future[Finding]] = []
    try:
        with interrupts.deferred():  # those that must wait for something begin first
            ordered = sorted(wanted, key=lambda check: check.waits, reverse=True)
            running.extend(pool.submit(check.run, live) for check in ordered)
        for one in as_completed(running):
            yield one.result()
    finally:  # an interrupt must not wait for requests in flight: they end by their own timeouts
        pool.shutdown(wait=False, cancel_futures=True)


def say_goodbye(live: Live) -> None:
    """End what the probes have started and left open, and take their worker registrations away, where that can be."""
    balancer, deadline = live.api(BALANCER), time.monotonic() + GOODBYE_SECONDS

    def end(workflow: str) -> None:
        if time.monotonic() < deadline:
            balancer.terminate(workflow, "the smoke that started it is over")

    with ThreadPoolExecutor(max_workers=GOODBYES) as pool:
        list(pool.map(end, _left_open(live)))
    for worker in sorted(live.workers):
        if balancer.deregister_worker(worker).status in (None, 404, 405):
            return


def _left_open(live: Live) -> Iterator[str]:
    """The probes' workflows that are still open, as the server lists them."""
    token = ""
    while live.started:
        page = live.api(BALANCER).get(f"/api/workflows?status=running&page_size=100{token}")
        listed = {text(one.get("workflow_id")) for one in mappings(page.body.get("workflows"))}
        yield from sorted(listed & live.started)
        live.started -= listed
        following = text(page.body.get("next_page_token"))
        if not following or not page.ok:
            return
        token = f"&next_page_token={quote(following)}"
