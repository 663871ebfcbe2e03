"""How long things take that only the scheduler does: the rhythm of its rounds, and the patience with a slower one."""

from __future__ import annotations

ROUND_SECONDS = 1.0
"""The pause between two rounds in the environment rendered here (DW_SCHEDULER_INTERVAL_SECONDS in env/cluster.env)."""

PATIENCE_SECONDS = 30
"""How long a look waits for a pass to do its work: two rounds of the published rhythm (10 s) fit."""
