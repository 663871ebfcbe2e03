"""The smoke of a cluster that someone else runs: whatever can be told over HTTP, in a namespace of the smoke's own."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from datetime import datetime

from smallcluster import api, evidence
from smallcluster.api import Api, Exchange
from smallcluster.bodies import mapping
from smallcluster.checks.base import THROUGH, Live, Need
from smallcluster.checks.health import info_answers, speech_of
from smallcluster.checks.rhythm import patience
from smallcluster.checks.run import run_live
from smallcluster.containers import BALANCER
from smallcluster.errors import UnfitTargetError
from smallcluster.progress import Progress
from smallcluster.smoke import SmokeReport, leniently, missing
from smallcluster.target import Target
from smallcluster.verdicts import Finding
from smallcluster.visits import stopped_by

INFO = "/api/cluster/info"
_CONTROL = "2"
_WORKER = "1."
"""The versions of the two planes that the checks speak."""


def smoke_target(target: Target, progress: Progress, *, strict: bool, began: float) -> SmokeReport:
    """Run every check that the target lets run; the rest are unknown, and say why."""
    kept = evidence.begin("smoke", target.settings, datetime.now().astimezone(), name="target")
    kept.text("command.txt", " ".join(sys.argv) + "\n")
    kept.json("target", target.urls)
    live = Live(
        cluster=target,
        routes=target.routes() | dict.fromkeys(THROUGH, target.urls[BALANCER]),
        credentials=api.credentials_from(target.settings.value),
        record=kept.exchange,
        verify=target.verify,
        offers=frozenset(Need) - absent(target),
        patience=patience(target.settings),
    )
    findings: list[Finding] = []

    def work() -> None:
        with progress.step("looking at the target") as step:
            live.speech = speech_of({BALANCER: _introduced(live)})
            if not target.read_only:
                _have_namespace(live.api(BALANCER))
            step.done(f"{target.urls[BALANCER]}, namespace {live.api(BALANCER).namespace}")
        run_live(lambda say: replace(live, say=say), progress, kept, findings)

    problem = stopped_by(work)
    if not strict:
        findings = [leniently(finding) for finding in findings]
    return SmokeReport(
        findings=tuple(findings), cluster=target, phases=tuple(progress.phases), evidence=kept, brought_up=False,
        left_running=False, seconds=time.monotonic() - began, problem=problem,
    )  # fmt: skip


def absent(target: Target) -> set[Need]:
    """What can't be had there."""
    found = {Need.ENGINE, Need.DATABASE, Need.OUR_ENV, *missing(target.settings)}
    found |= {Need.WRITES} if target.read_only else set()
    return found | ({Need.NODES} if len(target.urls) == 1 else set())


def _introduced(live: Live) -> Exchange:
    """The balancer's cluster info. Raises UnfitTargetError where what answers is not what can be judged."""
    answer = live.facts(info_answers)[BALANCER]
    where = f"{live.routes[BALANCER]}{INFO}"
    if answer.status is None:
        trusted = "certificate" not in answer.problem.lower()
        raise UnfitTargetError(
            f"{where} does not answer." if trusted else f"{where}: its certificate is not trusted.",
            seen=answer.problem,
            why="it is down, hangs, or can't be reached from here." if trusted
            else "it is signed by somebody of its own, has run out, or is another host's.",
            then="try it with curl, then repeat the command." if trusted else "name its signer's file with CA_FILE.",
        )  # fmt: skip
    if answer.status in (401, 403):
        raise UnfitTargetError(
            f"{where} does not take the token.",
            seen=answer.shown,
            why="the tokens of the target's file are not those of its nodes, or the balancer drops the header.",
            then="correct the tokens, then repeat the command.",
        )
    if not answer.ok or "control_plane" not in answer.body:
        raise UnfitTargetError(
            f"{where} is not answered by a Durable Workflow Server.",
            seen=f"{answer.status} {answer.text[:160]!r}",
            why="the address is another service's, or something stands before it that answers itself.",
            then="correct BALANCER_URL, then repeat the command.",
        )
    _refuse_other_speech(answer, where)
    return answer


def _refuse_other_speech(answer: Exchange, where: str) -> None:
    control = str(mapping(answer.body.get("control_plane")).get("version"))
    worker = str(mapping(answer.body.get("worker_protocol")).get("version"))
    if control != _CONTROL or not worker.startswith(_WORKER):
        raise UnfitTargetError(
            f"{where} speaks other versions of the protocol than the checks do.",
            seen=f"control plane {control}, worker protocol {worker}",
            why=f"the checks speak control plane {_CONTROL} and worker protocol {_WORKER}x.",
            then="take a release of this harness that is made for it.",
        )


def _have_namespace(balancer: Api) -> None:
    """Make the smoke's namespace where it is not there. Raises UnfitTargetError where it can't be had."""
    name = balancer.namespace
    if balancer.get(f"/api/namespaces/{name}").ok:
        return
    made = balancer.post("/api/namespaces", {"name": name, "description": "smokes of smallcluster"}, "admin")
    if not made.ok and made.status != 409:
        raise UnfitTargetError(
            f"The namespace {name}, in which the smoke would work, can't be made.",
            seen=made.shown,
            why="the token of the target's file may not make one (DW_ADMIN_TOKEN).",
            then="name one that is there with NAMESPACE, or repeat the command with --read-only.",
        )
