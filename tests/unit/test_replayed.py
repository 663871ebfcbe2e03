"""Every check that needs only HTTP, against replayed nodes of the published server 0.2.10 and against odd ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.nodes import Raw, Spoil, compressed, faithful, serving
from support.recorded import INFO, Reply
from support.replay import TOKEN, Call, Replayed

from smallcluster import api, checks
from smallcluster.api import Credentials, Exchange, Speech
from smallcluster.checks import identity, queries, races, retention, schedules, wakes
from smallcluster.checks import worker as workers
from smallcluster.checks.base import Live, Need
from smallcluster.checks.health import info_answers, speech_of
from smallcluster.checks.worker import Worker
from smallcluster.envfile import Line
from smallcluster.observed import Observed
from smallcluster.verdicts import Finding

NAMES = ("server-a", "server-b")
SETTINGS = {"DW_DEFAULT_NAMESPACE": "default", "APP_VERSION": INFO["version"]}
OFFERS = frozenset({Need.OUR_ENV, Need.NODES, Need.WRITES})
CRASHED = "the check could not look"

EARLIER = "an earlier step failed"
NOT_REPLAYED = {
    "queries-cross-nodes": "no POST /api/workflows/", "failed-task-comes-again": "no POST /api/worker/workflow-tasks/",
    "history-is-in-order": "no GET /api/workflows/", "namespaces-are-kept-apart": "no POST /api/namespaces",
    "timer-fires-once": EARLIER,
}  # fmt: skip
"""Checks of what was not recorded, with the cause that each names there."""
IDS = {check.id for check in checks.ALL} - NOT_REPLAYED.keys()
OUT_OF_REACH = {
    "bootstrap-completed-once", "containers-steady", "one-scheduler", "scheduler-passes-ran", "closed-run-is-pruned",
    "private-services", "expired-lease-goes-to-another-worker", "heartbeat-keeps-a-lease",
    "admission-budget-holds-over-nodes", "readiness-follows-the-database", "unmigrated-node-is-not-ready",
    "balancer-fails-over", "no-secret-in-logs",
}  # fmt: skip
"""Checks that need more than HTTP: nothing of them can be replayed."""
LACKED = {"nodes-run-same-packages": "package_provenance", "worker-token-opens-no-operator-route": "the same token"}
"""What 0.2.10 itself does not tell, by the check that can't judge without it."""

Findings = Mapping[str, Finding]


def live_on(routes: dict[str, str], offers: frozenset[Need] = OFFERS) -> Live:
    lines = {"DW_AUTH_TOKEN": Line("DW_AUTH_TOKEN", TOKEN, "the test", "test")}
    settings = SimpleNamespace(node_names=NAMES, value=lambda name: SETTINGS.get(name, ""), lines=lines)
    cluster = cast("Observed", SimpleNamespace(settings=settings))
    return Live(cluster, routes, Credentials(TOKEN, TOKEN, TOKEN), record=_keepable, offers=offers, patience=3.0)


def _keepable(exchange: Exchange) -> None:
    """Every exchange must fit into the transcript."""
    json.dumps(api.transcript_of(exchange), ensure_ascii=False).encode()


def smoked(server: Replayed, spoil: Spoil = faithful, ids: Collection[str] = IDS) -> Findings:
    """What `invoke smoke` would find with nothing but HTTP: checks at the same time, in the server's own speech."""
    wanted = [check for check in checks.ALL if check.id in ids]
    with serving(server, NAMES, spoil) as routes:
        live = live_on(routes)
        live.speech = speech_of(live.facts(info_answers))
        with ThreadPoolExecutor(max_workers=len(wanted)) as pool:
            return {finding.check: finding for finding in pool.map(lambda check: check.run(live), wanted)}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer tries and shorter waits than against a real cluster."""
    for module, name, value in (
        (races, "TASKS", 20), (races, "DEADLINE_SECONDS", 1.5), (identity, "PAUSE_SECONDS", 0.0),
        (identity, "MOST_REQUESTS", 14),
        (workers, "CROWDED_SECONDS", 0.0), (wakes, "TRIES", 3), (wakes, "LEAD_SECONDS", 0.05),
        (schedules, "LEADS_SECONDS", (0.6, 1.8)), (queries, "HOLD_SECONDS", 0),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def no_network() -> None:
    """This module speaks to its own servers on loopback."""


# what can be odd about a server


def changed(path: str, change: Callable[[Any], Any]) -> Spoil:
    """One path's bodies changed, everything else as recorded."""

    def spoil(call: Call, reply: Reply) -> Raw:
        return faithful(call, Reply(reply.status, change(reply.body)) if call.path == path else reply)

    return spoil


def without(name: str) -> Spoil:
    return changed("/api/cluster/info", lambda body: {key: value for key, value in body.items() if key != name})


def no_redis(call: Call, reply: Reply) -> Raw:
    """Readiness of 0.2.10 while Redis is down."""
    if call.path != "/api/ready":
        return faithful(call, reply)
    cache = {"status": "unavailable", "message": "Connection refused"}
    return faithful(call, Reply(503, reply.body | {"status": "not_ready", "checks": {"cache": cache}}))


def instead(content: bytes, kind: str = "text/html", **headers: str) -> Spoil:
    """Every answer has its status and this content."""
    return lambda _, reply: Raw(reply.status, content, {"Content-Type": kind, **headers})


def twisted(kind: type | tuple[type, ...], other: Callable[[Any], Any]) -> Spoil:
    """Every value of a kind, at any depth below the body itself, is another one."""

    def twist(value: Any) -> Any:
        if isinstance(value, kind):
            return other(value)
        if isinstance(value, dict):
            return {key: twist(one) for key, one in value.items()}
        return [twist(one) for one in value] if isinstance(value, list) else value

    return lambda call, reply: faithful(call, Reply(reply.status, {k: twist(v) for k, v in reply.body.items()}))


def test_the_published_server_holds_but_for_what_it_does_not_tell() -> None:
    found = smoked(Replayed())
    unknown = {check: finding for check, finding in found.items() if finding.verdict.value != "holds"}
    assert {check: finding.verdict.value for check, finding in unknown.items()} == dict.fromkeys(
        OUT_OF_REACH | LACKED.keys(), "unknown"
    )
    assert all("this check needs" in unknown[check].judgement.cause for check in OUT_OF_REACH)
    assert all(word in unknown[check].judgement.cause for check, word in LACKED.items())


def test_what_it_lacks_is_named_and_breaks_no_rule() -> None:
    found = smoked(Replayed(), ids=NOT_REPLAYED.keys())
    assert {check for check, word in NOT_REPLAYED.items() if word not in found[check].judgement.cause} == set()
    assert {finding.verdict.value for finding in found.values()} == {"unknown"}


def test_it_is_spoken_to_in_its_own_version_and_not_asked_for_shorter_holds() -> None:
    with serving(Replayed(hold=2.5), NAMES) as routes:
        speech = speech_of(live_on(routes).facts(info_answers))
    assert speech == Speech(worker_protocol="1.0", longest_hold=2.5, honours_timeouts=False)


def test_a_poll_is_waited_for_as_long_as_the_server_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "ANSWER_SECONDS", 0.4)
    with serving(Replayed(hold=1.0), NAMES) as routes:
        live = live_on(routes)
        worker = Worker(live, "patience")
        worker.register("server-a")
        impatient = worker.poll("server-a", hold=0)
        live.speech = speech_of(live.facts(info_answers))
        patient = Worker(live, "patience", worker.mark).poll("server-a", hold=0)
    assert (impatient.status, patient.status) == (None, 200)


def test_a_race_ends_with_its_last_task_though_the_server_holds_the_polls_that_got_none() -> None:
    with serving(Replayed(hold=30.0), NAMES) as routes:
        live = live_on(routes)
        live.speech = speech_of(live.facts(info_answers))
        finding = races.racing_pollers_share_no_task.run(live)
    assert finding.verdict.value == "holds"
    assert finding.seconds < 15


def test_without_a_route_for_namespaces_nothing_is_made_to_be_pruned() -> None:
    with serving(Replayed(lacks=("/api/namespaces/.*",)), NAMES) as routes:
        judged = retention.closed_run_is_pruned.run(live_on(routes, frozenset(Need))).judgement
    assert judged.verdict.value == "unknown"
    assert judged.cause == "this server has no GET /api/namespaces/default."


# a server that lacks something or answers oddly

LOOKS = {
    "balancer-health", "balancer-ready", "balancer-cluster-info", "nodes-ready", "nodes-reach-redis",
    "nodes-have-own-ids", "nodes-are-one-release", "nodes-run-same-packages", "balancer-reaches-every-node",
}  # fmt: skip
WAITS = {"due-schedule-fires-once", "expired-activity-times-out"}
TASKS = {
    "task-leased-on-one-node", "task-completed-on-other-node", "run-verified-through-balancer",
    "completions-are-fenced", "activity-crosses-nodes", "activity-completions-are-fenced",
    "racing-pollers-share-no-task", "repeated-poll-gets-its-task-again",
}  # fmt: skip
WORK = TASKS | {"worker-registers", "workflow-starts", "wakes-cross-nodes"}
NO_OBJECT = "without a JSON object"


@dataclass(frozen=True)
class Odd:
    """A server that is odd, which checks are run, and what each check that it touches must name as the cause.

    All others of those that are run must hold.
    """

    spoil: Spoil
    ids: Collection[str]
    causes: Mapping[str, str]
    lacks: tuple[str, ...] = ()


def unreadable(spoil: Spoil) -> Odd:
    """No body is a JSON object: nothing holds, and every cause says so, or points to the step before that says it."""
    named = {"nodes-reach-redis": "no checks.cache", "balancer-reaches-every-node": "no server_id"}
    later = dict.fromkeys(TASKS - {"task-leased-on-one-node", "activity-crosses-nodes"}, EARLIER)
    named |= {"clocks-agree": "no answer", "credentials-are-the-same-everywhere": NO_OBJECT}
    causes = dict.fromkeys(LOOKS | WORK | WAITS, NO_OBJECT) | later | named
    return Odd(spoil, IDS - OUT_OF_REACH, causes | {"racing-pollers-share-no-task": NO_OBJECT})


ODD = {
    "no schedules": Odd(
        faithful, WAITS | WORK, {"due-schedule-fires-once": "no POST /api/schedules"}, lacks=("/api/schedules.*",)
    ),
    "no activities": Odd(
        faithful,
        {"activity-crosses-nodes", "activity-completions-are-fenced", "expired-activity-times-out"},
        {
            "activity-crosses-nodes": "no POST /api/worker/activity-tasks/poll",
            "activity-completions-are-fenced": EARLIER,
            "expired-activity-times-out": "no POST /api/worker/activity-tasks/poll",
        },
        lacks=("/api/worker/activity-tasks/.*",),
    ),
    "no list of workflows": Odd(
        changed("/api/workflows", lambda body: body if "outcome" in body else {}),
        {"due-schedule-fires-once"},
        {"due-schedule-fires-once": NO_OBJECT},
    ),
    "info without server_id": Odd(
        without("server_id"),
        LOOKS,
        {
            "balancer-cluster-info": "lacks server_id",
            "nodes-have-own-ids": "no server_id",
            "balancer-reaches-every-node": "no server_id",
        },
    ),
    "info without worker_protocol": Odd(
        without("worker_protocol"),
        LOOKS | WORK,
        {"balancer-cluster-info": "worker_protocol.version", "nodes-are-one-release": "worker protocol"},
    ),
    "info without control_plane": Odd(
        without("control_plane"),
        LOOKS,
        {"balancer-cluster-info": "control_plane.version", "nodes-are-one-release": "control plane"},
    ),
    "info without version": Odd(without("version"), LOOKS, {"nodes-are-one-release": "its version"}),
    "info without capabilities": Odd(without("capabilities"), LOOKS, {"nodes-are-one-release": "payload codecs"}),
    "ready without checks": Odd(
        changed("/api/ready", lambda body: {"status": body["status"]}), LOOKS, {"nodes-reach-redis": "no checks.cache"}
    ),
    "ready without status": Odd(
        changed("/api/ready", lambda body: {"checks": body["checks"]}),
        LOOKS,
        {"balancer-ready": "tells no status", "nodes-ready": "tells no status"},
    ),
    "Redis is down": Odd(
        no_redis, LOOKS, {"balancer-ready": "readiness", "nodes-ready": "Redis", "nodes-reach-redis": "Redis is down"}
    ),
    "gzip everywhere": Odd(
        lambda _, reply: compressed(Raw(reply.status, json.dumps(reply.body).encode())), LOOKS | WORK, {}
    ),
    "html": unreadable(instead(b"<!DOCTYPE html><html><body>Welcome</body></html>")),
    "malformed": unreadable(instead(b'{"status": "rea', "application/json")),
    "empty": unreadable(instead(b"")),
    "a list": unreadable(instead(b'[{"status": "ready"}]', "application/json")),
    "half a pair": unreadable(instead(b'{"status": "ready", "x": "\\ud800"}', "application/json")),
    "bottomless": unreadable(instead(b'{"x":' * 5000 + b"1", "application/json")),
    "texts for objects": Odd(
        twisted(dict, str),
        LOOKS | WORK,
        {
            "balancer-cluster-info": "lacks control_plane.version, worker_protocol.version",
            "nodes-are-one-release": "control plane, payload codecs, worker protocol",
            "nodes-reach-redis": "no checks.cache",
            "task-leased-on-one-node": "neither a task nor null",
            "activity-crosses-nodes": "neither a task nor null",
            "wakes-cross-nodes": "neither a task nor null",
            "racing-pollers-share-no-task": "",
        }
        | dict.fromkeys(TASKS - {"task-leased-on-one-node", "activity-crosses-nodes"}, ""),
    ),
    "null for lists": Odd(
        twisted(list, lambda _: None),
        LOOKS | WORK | WAITS,
        {
            "nodes-are-one-release": "payload codecs",
            "activity-crosses-nodes": "without history_events",
            "due-schedule-fires-once": "list of workflows",
            "expired-activity-times-out": "without history_events",
        },
    ),
    "lists for texts": Odd(
        twisted(str, lambda text: [text]), LOOKS | WORK, dict.fromkeys(LOOKS | WORK - {"worker-registers"}, "")
    ),
    "texts for numbers": Odd(twisted((int, float), str), LOOKS | WORK, dict.fromkeys(TASKS | {"worker-registers"}, "")),
    "null for all": Odd(twisted(object, lambda _: None), LOOKS | WORK, dict.fromkeys(LOOKS | WORK, "")),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_server_crashes_nothing_and_nothing_it_hides_holds(name: str) -> None:
    odd = ODD[name]
    found = smoked(Replayed(lacks=odd.lacks), odd.spoil, odd.ids)
    assert not [check for check, finding in found.items() if CRASHED in finding.judgement.cause]
    wanting = {check: finding for check, finding in found.items() if finding.verdict.value != "holds"}
    assert wanting.keys() | LACKED.keys() == (odd.causes.keys() | LACKED.keys())
    unnamed = {
        check: wanting[check].judgement.cause
        for check, word in odd.causes.items()
        if word not in wanting[check].judgement.cause
    }
    assert unnamed == {}
