"""The one way to wait: until a condition holds, never for a length of time alone."""

from __future__ import annotations

import time
from collections.abc import Callable

from smallcluster.errors import ClusterBrokenError

POLL_SECONDS = 0.02


def until_none(
    what: str,
    probe: Callable[[], str | None],
    *,
    deadline: float,
    say: Callable[[str], None] = lambda _: None,
    then: str = "look with `invoke status` and `invoke logs`.",
) -> float:
    """Call `probe` until it returns None (nothing is missing); returns the seconds it took.

    While it returns a sentence, that is what is still missing; the last one goes into the error. An exception
    from the probe ends the wait at once: it means that waiting can't help. Raises ClusterBrokenError after
    `deadline` seconds.
    """
    began = time.monotonic()
    while True:
        missing = probe()
        elapsed = time.monotonic() - began
        if missing is None:
            return elapsed
        if elapsed > deadline:
            raise ClusterBrokenError(f"Not so after {elapsed:.0f} s: {what}.", seen=missing, then=then)
        say(f"waiting for {missing}")
        time.sleep(POLL_SECONDS)
