"""The bench from end to end with small numbers: every figure is measured, and nothing is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import Invoke, leftovers

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120), pytest.mark.usefixtures("nothing_running")]


@pytest.mark.once
def test_bench_brings_up_measures_everything_and_takes_down(invoke: Invoke, client: Any, db: str) -> None:
    ran = invoke("bench", f"--db={db}", "--runs=1", "--seconds=1", "--polls=100", "--hold=4", "--json")
    assert ran.code == 0, ran.out + ran.err
    data = ran.data
    assert (data["schema"], data["weak"], data["problem"]) == ("smallcluster.bench/1", [], None)
    assert all(one["value"] for one in data["figures"])
    assert data["cycles"]["completed"] >= 3
    assert [one["latencies"]["count"] for one in data["wakes"]] == [20, 20]
    assert data["floor"]["rate"]["median"] > data["cycles"]["rate"]["median"] / 2
    assert 0 < data["starts"]["seconds"]["median"] < 30
    assert data["idle_polls"]["held"] == 100
    assert data["idle_polls"]["shortest"] >= 3.9
    assert set(data["processor_ms_per_cycle"]) >= {"server-a", "server-b", "balancer", "database", "client"}
    assert json.loads((Path(data["evidence"]) / "bench.json").read_text()) == data
    assert not leftovers(client, db)
