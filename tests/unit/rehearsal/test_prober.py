"""Downtime as a client sees it: what counts as served, from when until when, and the clock that nothing slows down."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from smallcluster.rehearsal import prober
from smallcluster.rehearsal.prober import Sample, outage_of, stretches_of

SERVED = Sample("control", 0.0, 0.01, 200)


def samples(*statuses: int | None) -> list[Sample]:
    return [replace(SERVED, at=float(number), status=status) for number, status in enumerate(statuses)]


@pytest.mark.parametrize(
    ("statuses", "told"),
    [
        ((200, 200), None),
        ((200, 401, 404), None),
        ((200, 503, None, 200, 200), (1.0, 3.0, 1, 1)),
        ((200, 503, 200, None, 200), (1.0, 4.0, 1, 1)),
        ((200, 502, None), (1.0, None, 1, 1)),
        ((503, 200), (0.0, 1.0, 1, 0)),
    ],
)
def test_an_outage(statuses: tuple[int | None, ...], told: tuple[Any, ...] | None) -> None:
    found = outage_of(samples(*statuses))
    assert (found and (found.since, found.until, found.refused, found.unanswered)) == told


def test_stretches_reach_to_one_another_and_tell_how_many_they_are() -> None:
    found = stretches_of(samples(200, 200, 503, None, 200))
    assert [(one.since, one.until, one.served, one.requests) for one in found] == [
        (0.0, 2.0, True, 2), (2.0, 4.0, False, 2), (4.0, 4.0, True, 1),
    ]  # fmt: skip
    assert stretches_of([]) == []


def test_how_long_it_lasted() -> None:
    found, endless = outage_of(samples(200, 503, 200)), outage_of(samples(503))
    assert found is not None
    assert endless is not None
    assert (found.seconds, endless.seconds) == (1.0, None)


@pytest.fixture
def no_network() -> None:
    """This module speaks to its own server on loopback."""


@pytest.fixture
def server() -> Iterator[Any]:
    class Handler(BaseHTTPRequestHandler):
        status, delay = 200, 0.0

        def answer(self) -> None:
            time.sleep(type(self).delay)
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(type(self).status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads, listener.block_on_close = True, False
    threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()
    yield Handler, f"http://127.0.0.1:{listener.server_address[1]}"
    listener.shutdown()
    listener.server_close()


def test_each_kind_is_asked_on_the_clock_and_a_maintenance_answer_is_an_outage(server: Any, tmp_path: Path) -> None:
    handler, url = server
    balancer = prober.api_for("balancer", url, lambda _: "token", lambda _: None)
    path = tmp_path / prober.PROBES
    with prober.probing(balancer, path) as probes:
        kept = probes.samples
        wait_for(lambda: len(kept) > 9)
        handler.status = 503
        wait_for(lambda: any(not one.served for one in list(probes.samples)))
        seen = len(kept)
        wait_for(lambda: len(kept) > seen + 6)
        handler.status = 200
        wait_for(lambda: sum(one.served for one in list(probes.samples)[-6:]) == 6)
    assert {one.kind for one in probes.outages(time.time())} == set(prober.KINDS)
    assert all(one.until is not None and one.unanswered == 0 for one in probes.outages(time.time()))
    with path.open("a") as stream:
        stream.write('{"kind": "hea')  # a run that is killed may leave half a line
    with prober.probing(balancer, path) as again:
        recalled = again.samples[: len(kept)]
    assert recalled == kept, "what a run that was cut off has seen belongs to the one that goes on"


def test_slow_answers_do_not_slow_the_clock_down(server: Any, tmp_path: Path) -> None:
    handler, url = server
    handler.delay = 1.0
    balancer = prober.api_for("balancer", url, lambda _: "token", lambda _: None)
    with prober.probing(balancer, tmp_path / prober.PROBES) as probes:
        wait_for(lambda: len(probes.samples) >= 3)
    assert len([one for one in probes.samples if one.kind == "health"]) >= 5, "some more were sent meanwhile"


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
