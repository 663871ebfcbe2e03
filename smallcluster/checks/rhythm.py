"""How long things take that only the scheduler does: the rhythm of its rounds, and the patience with a slower one."""

from __future__ import annotations

from smallcluster.settings import Settings

ROUND_SECONDS = 1.0
"""The pause between two rounds in the environment rendered here (DW_SCHEDULER_INTERVAL_SECONDS in env/cluster.env)."""

PUBLISHED_ROUND_SECONDS = 10.0
"""The pause of the published recipe, for a cluster that does not say its own."""

SLACK_SECONDS = 10.0
"""What a busy machine may add."""


def patience(settings: Settings) -> float:
    """How long a look waits for a pass to do its work, in seconds: two rounds, and what a busy machine adds."""
    told = settings.value("DW_SCHEDULER_INTERVAL_SECONDS")
    pause = float(told) if told.isdecimal() else PUBLISHED_ROUND_SECONDS
    return 2 * pause + SLACK_SECONDS
