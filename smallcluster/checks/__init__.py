"""Every check, in the order in which a person reads them: what answers, who it is, what runs, what crosses."""

from __future__ import annotations

from typing import Any

from smallcluster.checks import (
    activities,
    health,
    identity,
    races,
    retention,
    schedules,
    topology,
    traffic,
    wakes,
)
from smallcluster.checks.base import Check

ALL: tuple[Check[Any], ...] = (
    health.balancer_health,
    health.balancer_ready,
    health.balancer_cluster_info,
    health.nodes_ready,
    health.nodes_reach_redis,
    identity.nodes_have_own_ids,
    identity.nodes_are_one_release,
    identity.nodes_run_same_packages,
    identity.balancer_reaches_every_node,
    traffic.worker_registers,
    traffic.workflow_starts,
    traffic.task_leased_on_one_node,
    traffic.task_completed_on_other_node,
    traffic.run_verified_through_balancer,
    traffic.completions_are_fenced,
    activities.activity_crosses_nodes,
    activities.activity_completions_are_fenced,
    wakes.wakes_cross_nodes,
    races.racing_pollers_share_no_task,
    topology.bootstrap_completed_once,
    topology.containers_steady,
    topology.one_scheduler,
    topology.scheduler_passes_ran,
    schedules.due_schedule_fires_once,
    activities.expired_activity_times_out,
    retention.closed_run_is_pruned,
    topology.private_services,
)
