"""The work of each step of the plan: it does it and gives what it saw; what it can't verify stops the plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from smallcluster.rehearsal import proofs, window
from smallcluster.rehearsal.world import Say, World

WORK: Mapping[str, Callable[[World, Say], list[str]]] = {
    "drain-workers": window.drain_workers,
    "stop-scheduler": window.stop_scheduler,
    "close-balancer": window.close_balancer,
    "stop-nodes": window.stop_nodes,
    "back-up": window.back_up,
    "bootstrap": window.bootstrap,
    "start-nodes": window.start_nodes,
    "open-balancer": window.open_balancer,
    "start-workers": window.start_workers,
    "start-scheduler": window.start_scheduler,
    "compare": proofs.compare,
    "prove-backup": proofs.prove_backup,
    "measure-floor": proofs.measure_floor,
}
"""What each step of the plan does; the smoke is the verb's own."""
