"""The rules of the small-cluster contract, as data.

They come from the note that defines the first supported clustered shape of Durable Workflow Server: "the note" in this
repository. `where` names the part of it that makes the promise.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One promise of the note. `where` names the note's part that makes it."""

    id: str
    sentence: str
    where: str


_SMOKE = "the harness: what the smoke checks"
_SHAPE = "the first public clustered shape"
_OPERATOR = "what the operator's documentation must state"
_API = "the API surface is mostly stateless"
_REDIS = "Redis remains required for the first cluster contract"
_SCHEDULER = "the scheduler and maintenance shape"
_RUNS = "the harness: what each run starts"

RULES: tuple[Rule, ...] = (
    Rule("smoke.health", "Through the balancer, /api/health answers that the cluster serves.", _SMOKE),
    Rule("smoke.ready", "Through the balancer, /api/ready answers that the cluster is ready.", _SMOKE),
    Rule("smoke.cluster-info", "Through the balancer, /api/cluster/info tells what answers.", _SMOKE),
    Rule("smoke.register", "An external worker registers through the balancer.", _SMOKE),
    Rule("smoke.start", "A workflow starts through the balancer.", _SMOKE),
    Rule("smoke.poll-one-node", "A workflow task is leased by a poll sent to one node directly.", _SMOKE),
    Rule("smoke.complete-other-node", "The leased task is completed through another node.", _SMOKE),
    Rule("smoke.verify-run", "The run's result is read through the balancer.", _SMOKE),
    Rule("shape.nodes", "Two or three API nodes serve, all of them ready.", _SHAPE),
    Rule("shape.shared-redis", "Every node uses Redis, and reaches it, for cache and wake signals.", _SHAPE),
    Rule("shape.balancer", "A stateless balancer spreads requests over every node.", _SHAPE),
    Rule("api.no-sticky-sessions", "Worker traffic needs no sticky sessions.", _API),
    Rule("api.leases-in-database", "Task leases live in the database: any node knows who holds one.", _API),
    Rule("redis.wake-signals", "Long polls are woken across nodes through the shared Redis.", _REDIS),
    Rule("runs.bootstrap", "One bootstrap job runs, to its end, before any node serves.", _RUNS),
    Rule("runs.steady", "Every container of the topology runs, and none was restarted or killed.", _RUNS),
    Rule("scheduler.one", "Exactly one scheduler or maintenance process runs.", _SCHEDULER),
    Rule(
        "scheduler.passes",
        "The scheduler runs schedule:evaluate, activity:timeout-enforce and history:prune.",
        _SCHEDULER,
    ),
    Rule("scheduler.fires-once", "A schedule that has come due is fired by the scheduler, once.", _SCHEDULER),
    Rule("scheduler.times-out", "An activity past its deadline is timed out by the scheduler.", _SCHEDULER),
    Rule(
        "scheduler.prunes",
        "Closed runs past their namespace's retention are pruned by the scheduler, and nothing else is.",
        _SCHEDULER,
    ),
    Rule("operator.server-id", "Each API node has a DW_SERVER_ID of its own.", _OPERATOR),
    Rule(
        "operator.same-version",
        "Every node runs the same APP_VERSION and the same payload codec.",
        _OPERATOR,
    ),
    Rule("operator.same-packages", "Every node runs the same workflow package version.", _OPERATOR),
    Rule("operator.private-services", "Database and Redis are private to the deployment.", _OPERATOR),
    Rule("operator.http-only", "Only HTTP traffic goes through the balancer.", _OPERATOR),
)

BY_ID = {rule.id: rule for rule in RULES}
