"""Asks the balancer on a fixed clock, whatever becomes of the answers: downtime as a client sees it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal

from smallcluster import api, files, interrupts
from smallcluster.api import Api, Exchange

PROBES = "probes.jsonl"
PERIOD_SECONDS = 0.1
"""Between two requests of one kind, by the clock and not by the answers."""
ANSWER_SECONDS = 5.0
AT_ONCE = 64
"""Requests that may be on their way at a time, all kinds together; more than this machine answers for would say so."""

Kind = Literal["health", "control", "worker"]
KINDS: Mapping[Kind, Callable[[Api], Exchange]] = {
    "health": lambda balancer: balancer.get("/api/health", "open"),
    "control": lambda balancer: balancer.get("/api/workflows?page_size=1"),
    "worker": lambda balancer: balancer.post(
        "/api/worker/heartbeat", {"worker_id": "rehearsal-prober"}, "worker", ANSWER_SECONDS
    ),
}
"""What each class of callers asks. None of it writes anything that lasts."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: when it was sent (seconds since the epoch), how long it took, and its status; None: no answer.

    `late` is how long after its turn it was sent, because too many were on their way.
    """

    kind: Kind
    at: float
    seconds: float
    status: int | None
    problem: str = ""
    late: float = 0.0

    @property
    def served(self) -> bool:
        """Whether a node answered. A refusal of the protocol's own is an answer; a 502 or 503 is none."""
        return self.status is not None and self.status < 500


@dataclass(frozen=True)
class Outage:
    """When a kind of callers was first not served, and from when on it always was; seconds since the epoch.

    `until` None: it was not served again.
    """

    kind: Kind
    since: float
    until: float | None
    refused: int
    unanswered: int

    @property
    def seconds(self) -> float | None:
        """How long it lasted."""
        return None if self.until is None else self.until - self.since


@dataclass(frozen=True)
class Stretch:
    """Requests in a row that were all served, or all not; from when to when, seconds since the epoch."""

    since: float
    until: float
    served: bool
    requests: int


@dataclass
class Prober:
    """What was asked so far."""

    balancer: Api
    path: Path
    """Gets each sample as it ends, a line of JSON each."""
    samples: list[Sample] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def outages(self, until: float) -> list[Outage]:
        """For each kind that was ever not served: from when until when; by what was sent until a moment (epoch)."""
        with self._lock:
            samples = sorted((one for one in self.samples if one.at <= until), key=lambda sample: sample.at)
        found = (outage_of([one for one in samples if one.kind == kind]) for kind in KINDS)
        return [one for one in found if one is not None]

    def stretches(self) -> dict[Kind, list[Stretch]]:
        """For each kind, how it was served through time: neighbours that fared alike, as one."""
        with self._lock:
            samples = sorted(self.samples, key=lambda sample: sample.at)
        return {kind: stretches_of([one for one in samples if one.kind == kind]) for kind in KINDS}

    @property
    def worst_lateness(self) -> float:
        """The most that a request was sent after its turn, in seconds: what the figures may be off by."""
        with self._lock:
            return max((sample.late for sample in self.samples), default=0.0)

    def _run(self, pool: ThreadPoolExecutor) -> None:
        began, number = time.monotonic(), 0
        while not self._over.is_set():
            for kind in KINDS:
                pool.submit(self._ask, kind, began + number * PERIOD_SECONDS)
            number += 1
            self._over.wait(max(0.0, began + number * PERIOD_SECONDS - time.monotonic()))

    def _ask(self, kind: Kind, turn: float) -> None:
        late = time.monotonic() - turn
        answer = KINDS[kind](self.balancer)
        sample = Sample(kind, answer.at, answer.seconds, answer.status, answer.problem, max(0.0, late))
        with self._lock, self.path.open("a", encoding="utf-8") as stream:
            self.samples.append(sample)
            stream.write(json.dumps(asdict(sample)) + "\n")


@contextmanager
def probing(balancer: Api, path: Path) -> Iterator[Prober]:
    """Ask for as long as the block runs; requests on their way at its end are waited for.

    What an earlier run has left at `path`, which was cut off, belongs to it.
    """
    prober = Prober(balancer, path, [Sample(**told) for told in files.json_lines(path)])
    pool = ThreadPoolExecutor(max_workers=AT_ONCE)
    clock = threading.Thread(target=prober._run, args=(pool,), daemon=True)
    try:
        with interrupts.deferred():
            clock.start()
        yield prober
    finally:
        prober._over.set()
        with interrupts.shielded():
            clock.join()
            pool.shutdown(wait=True, cancel_futures=True)


def outage_of(samples: Sequence[Sample]) -> Outage | None:
    """From the first request that was not served to the first one after which all were; samples in order of sending."""
    lost = [number for number, sample in enumerate(samples) if not sample.served]
    if not lost:
        return None
    after = samples[lost[-1] + 1 :]
    within = [samples[number] for number in lost]
    return Outage(
        samples[0].kind,
        samples[lost[0]].at,
        after[0].at if after else None,
        refused=sum(sample.status is not None for sample in within),
        unanswered=sum(sample.status is None for sample in within),
    )


def stretches_of(samples: Sequence[Sample]) -> list[Stretch]:
    """Samples in order of sending, joined where neighbours fared alike; each reaches to where the next begins."""
    groups = [list(group) for _, group in groupby(samples, key=lambda sample: sample.served)]
    ends = [*(group[0].at for group in groups[1:]), *(group[-1].at for group in groups[-1:])]
    return [
        Stretch(group[0].at, end, group[0].served, len(group)) for group, end in zip(groups, ends, strict=True)
    ]  # fmt: skip


def api_for(route: str, url: str, value: Callable[[str], str], keep: Callable[[Exchange], None]) -> Api:
    """An Api for the prober: with the cluster's tokens and namespace, in the oldest speech that every release knows."""
    return Api(
        route=route,
        base=url,
        credentials=api.credentials_from(value),
        record=keep,
        namespace=value("DW_DEFAULT_NAMESPACE") or "default",
    )
