"""Every check, in the order in which a person reads them: what answers, who it is, what runs, what crosses."""

from __future__ import annotations

from typing import Any

from smallcluster.checks import (
    access,
    activities,
    admission,
    clocks,
    failover,
    health,
    identity,
    leases,
    namespaces,
    progress,
    queries,
    races,
    readiness,
    retention,
    schedules,
    secrecy,
    topology,
    traffic,
    wakes,
)
from smallcluster.checks.base import Check

FIRST: tuple[Check[Any], ...] = (
    health.balancer_health,
    health.balancer_ready,
    health.balancer_cluster_info,
    health.nodes_ready,
    health.nodes_reach_redis,
)
"""What answers at all, and whether it says that it is ready."""
ALL: tuple[Check[Any], ...] = (
    *FIRST,
    readiness.readiness_follows_the_database,
    readiness.unmigrated_node_is_not_ready,
    identity.nodes_have_own_ids,
    identity.nodes_are_one_release,
    identity.nodes_run_same_packages,
    identity.balancer_reaches_every_node,
    clocks.clocks_agree,
    access.credentials_are_the_same_everywhere,
    access.worker_token_opens_no_operator_route,
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
    leases.expired_lease_goes_to_another_worker,
    leases.heartbeat_keeps_a_lease,
    queries.queries_cross_nodes,
    admission.admission_budget_holds_over_nodes,
    namespaces.namespaces_are_kept_apart,
    progress.failed_task_comes_again,
    progress.timer_fires_once,
    progress.history_is_in_order,
    topology.bootstrap_completed_once,
    topology.containers_steady,
    topology.one_scheduler,
    topology.scheduler_passes_ran,
    schedules.due_schedule_fires_once,
    activities.expired_activity_times_out,
    retention.closed_run_is_pruned,
    topology.private_services,
    failover.balancer_fails_over,
    secrecy.no_secret_in_answers,
    secrecy.no_secret_in_logs,
)
