"""Who the nodes say they are, judged on hand-made answers."""

from __future__ import annotations

from typing import Any

import pytest
from support.made import answer

from smallcluster.checks import identity
from smallcluster.checks.identity import NodeInfos, Spread
from smallcluster.verdicts import Verdict


def info(route: str, **changed: Any) -> dict[str, Any]:
    return {
        "server_id": route,
        "version": "0.1.0",
        "capabilities": {"payload_codecs": ["avro"]},
        "control_plane": {"version": "2"},
        "worker_protocol": {"version": "1.20"},
        "package_provenance": {"workflow": "1.2.3"},
    } | changed


def infos(**b: Any) -> NodeInfos:
    answers = {
        "server-a": answer("server-a", **info("server-a")),
        "server-b": answer("server-b", **info("server-b", **b)),
    }
    return NodeInfos(answers, "0.1.0")


def test_own_ids_hold() -> None:
    assert identity.nodes_have_own_ids.judge(infos()).verdict is Verdict.HOLDS


@pytest.mark.parametrize("wrong", ["server-a", "", None, "6d0f3c"])
def test_a_shared_missing_or_foreign_id_is_broken(wrong: str | None) -> None:
    assert identity.nodes_have_own_ids.judge(infos(server_id=wrong)).verdict is Verdict.BROKEN


@pytest.mark.parametrize("check", [identity.nodes_have_own_ids, identity.nodes_are_one_release])
def test_a_silent_node_leaves_identity_unknown(check: Any) -> None:
    seen = NodeInfos({"server-a": answer("server-a", **info("server-a")), "server-b": answer("server-b", None)}, "1")
    assert check.judge(seen).verdict is Verdict.UNKNOWN


def test_one_release_holds() -> None:
    assert identity.nodes_are_one_release.judge(infos()).verdict is Verdict.HOLDS


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"version": "0.2.0"}, "version"),
        ({"capabilities": {"payload_codecs": ["json"]}}, "payload codecs"),
        ({"control_plane": {"version": "3"}}, "control plane"),
        ({"worker_protocol": {"version": "1.19"}}, "worker protocol"),
    ],
)
def test_a_node_of_another_release_is_broken_and_the_difference_named(changed: dict[str, Any], named: str) -> None:
    judged = identity.nodes_are_one_release.judge(infos(**changed))
    assert judged.verdict is Verdict.BROKEN
    assert named in judged.expected


@pytest.mark.parametrize("untold", ["version", "capabilities", "control_plane", "worker_protocol"])
def test_what_no_node_tells_is_unknown(untold: str) -> None:
    both = {name: answer(name, **(info(name) | {untold: None})) for name in ("server-a", "server-b")}
    assert identity.nodes_are_one_release.judge(NodeInfos(both, "0.1.0")).verdict is Verdict.UNKNOWN


def test_same_packages_hold() -> None:
    assert identity.nodes_run_same_packages.judge(infos()).verdict is Verdict.HOLDS


@pytest.mark.parametrize("other", [{"workflow": "1.2.4"}, None])
def test_other_packages_on_one_node_are_broken(other: dict[str, str] | None) -> None:
    assert identity.nodes_run_same_packages.judge(infos(package_provenance=other)).verdict is Verdict.BROKEN


def test_packages_that_no_node_tells_are_unknown() -> None:
    both = {name: answer(name, **info(name, package_provenance=None)) for name in ("server-a", "server-b")}
    assert identity.nodes_run_same_packages.judge(NodeInfos(both, "0.1.0")).verdict is Verdict.UNKNOWN


def test_a_release_that_is_not_the_rendered_one_is_broken() -> None:
    seen = NodeInfos(infos().answers, "0.9.0")
    assert identity.nodes_are_one_release.judge(seen).verdict is Verdict.BROKEN


A, B = "server-a", "server-b"


@pytest.mark.parametrize(
    ("separate", "kept", "failures", "verdict"),
    [
        ((A, B, A, B), (B, A, B, A), (), Verdict.HOLDS),
        ((A, A, A, A), (B, A, B, A), (), Verdict.BROKEN),
        ((A, B, A, B), (A, A, A, A), (), Verdict.BROKEN),
        ((A, B, A), (A, B), ("GET → 502",), Verdict.BROKEN),
        ((), (), (), Verdict.BROKEN),
        ((A, B, "other"), (A, B), (), Verdict.BROKEN),
    ],
)
def test_the_balancer_reaches_every_node_either_way(
    separate: tuple[str, ...], kept: tuple[str, ...], failures: tuple[str, ...], verdict: Verdict
) -> None:
    seen = Spread((A, B), separate, kept, failures)
    assert identity.balancer_reaches_every_node.judge(seen).verdict is verdict


def test_ids_that_no_node_tells_are_unknown_and_named() -> None:
    both = {name: answer(name, **info(name, server_id=None)) for name in ("server-a", "server-b")}
    judged = identity.nodes_have_own_ids.judge(NodeInfos(both, "0.1.0"))
    assert (judged.verdict, "server_id" in judged.cause) == (Verdict.UNKNOWN, True)
    nameless = Spread((A, B), (A, ""), (B, A), ())
    assert identity.balancer_reaches_every_node.judge(nameless).verdict is Verdict.UNKNOWN


def test_the_same_packages_in_another_order_are_the_same() -> None:
    both = {name: answer(name, **info(name)) for name in ("server-a", "server-b")}
    both["server-a"].body["package_provenance"] = {"a": 1, "b": 2}
    both["server-b"].body["package_provenance"] = {"b": 2, "a": 1}
    assert identity.nodes_run_same_packages.judge(NodeInfos(both, "0.1.0")).verdict is Verdict.HOLDS
