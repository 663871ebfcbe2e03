"""The rules of the small-cluster contract, as data.

They come from the note that defines the first supported clustered shape of Durable Workflow Server: "the note" in this
repository. `where` names the part of it that makes the promise. A few rules are the public protocol's alone: a server
may hold the note and lack them, so what breaks them is a warning, except where a run is strict.
"""

from __future__ import annotations

from dataclasses import dataclass

PROTOCOL = "the public protocol"
"""Where a rule stands that the note doesn't make."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One promise. `where` names the note's part that makes it, or PROTOCOL."""

    id: str
    sentence: str
    where: str

    @property
    def is_the_notes(self) -> bool:
        """Whether the note promises it: only then does breaking it decide a verdict without `--strict`."""
        return self.where != PROTOCOL


_SMOKE = "the harness: what the smoke checks"
_SHAPE = "the first public clustered shape"
_OPERATOR = "what the operator's documentation must state"
_API = "the API surface is mostly stateless"
_REDIS = "Redis remains required for the first cluster contract"
_SCHEDULER = "the scheduler and maintenance shape"
_UPGRADES = "rolling upgrades are deferred"
_RUNS = "the harness: what each run starts"
_OUTSIDE = "what remains outside the public support boundary"

RULES: tuple[Rule, ...] = (
    Rule("smoke.health", "Through the balancer, /api/health answers that the cluster serves.", _SMOKE),
    Rule("smoke.ready", "Through the balancer, /api/ready answers that the cluster is ready.", _SMOKE),
    Rule("smoke.cluster-info", "Through the balancer, /api/cluster/info tells what answers.", _SMOKE),
    Rule("smoke.register", "An external worker registers through the balancer.", _SMOKE),
    Rule("smoke.start", "A workflow starts through the balancer.", _SMOKE),
    Rule("smoke.poll-one-node", "A workflow task is leased by a poll sent to one node directly.", _SMOKE),
    Rule("smoke.complete-other-node", "The leased task is completed through another node.", _SMOKE),
    Rule("smoke.verify-run", "The run's result is read through the balancer.", _SMOKE),
    Rule("shape.one-database", "One external MySQL or PostgreSQL database is shared by every node.", _SHAPE),
    Rule("shape.external-workers", "Workers are external: processes that reach the nodes over HTTP alone.", _SHAPE),
    Rule("shape.stop-the-world", "Upgrades stop the world: one server image runs at a time.", _SHAPE),
    Rule("shape.nodes", "Two or three API nodes serve, all of them ready.", _SHAPE),
    Rule("shape.shared-redis", "Every node uses Redis, and reaches it, for cache and wake signals.", _SHAPE),
    Rule("shape.balancer", "A stateless balancer spreads requests over every node.", _SHAPE),
    Rule("api.no-sticky-sessions", "Worker traffic needs no sticky sessions.", _API),
    Rule("api.leases-in-database", "Task leases live in the database: any node knows who holds one.", _API),
    Rule(
        "api.one-owner",
        "A task is leased to one worker at a time; an expired lease goes to another, and its late holder is refused.",
        _API,
    ),
    Rule("api.history-in-database", "What a node acknowledged is stored: any node can be lost and nothing is.", _API),
    Rule("api.namespaces-in-database", "Namespaces live in the database: every node keeps the same ones apart.", _API),
    Rule("redis.query-tasks", "A query goes from any node to a worker at any other, through the shared Redis.", _REDIS),
    Rule("redis.admission", "Task-queue admission budgets hold over all nodes, through locks in Redis.", _REDIS),
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
    Rule("upgrades.readiness", "A node is ready only while its database is there and migrated.", _UPGRADES),
    Rule("upgrades.role-scoped-auth", "Tokens are scoped to roles: a worker's opens nothing else.", _UPGRADES),
    Rule("operator.server-id", "Each API node has a DW_SERVER_ID of its own.", _OPERATOR),
    Rule(
        "operator.same-version",
        "Every node runs the same APP_VERSION and the same payload codec.",
        _OPERATOR,
    ),
    Rule("operator.same-packages", "Every node runs the same workflow package version.", _OPERATOR),
    Rule(
        "operator.same-credentials",
        "Every node takes the same auth tokens or signature keys, and nothing without them.",
        _OPERATOR,
    ),
    Rule(
        "operator.redis-settings",
        "CACHE_STORE and QUEUE_CONNECTION are redis, with the same Redis connection on every node.",
        _OPERATOR,
    ),
    Rule(
        "operator.database-settings",
        "DB_CONNECTION is mysql or pgsql, with the same database connection on every node.",
        _OPERATOR,
    ),
    Rule("operator.one-scheduler", "Exactly one scheduler or maintenance loop is configured.", _OPERATOR),
    Rule(
        "operator.stop-the-world",
        "Nothing is configured to replace nodes one by one: upgrades stop the world.",
        _OPERATOR,
    ),
    Rule("operator.private-services", "Database and Redis are private to the deployment.", _OPERATOR),
    Rule("operator.http-only", "Only HTTP traffic goes through the balancer.", _OPERATOR),
    Rule("outside.sqlite", "SQLite is no clustered database.", _OUTSIDE),
    Rule("outside.duplicate-schedulers", "A second scheduler or maintenance runner is not supported.", _OUTSIDE),
    Rule("outside.redis-less", "Several nodes without Redis are not supported.", _OUTSIDE),
    Rule("outside.rolling-upgrades", "Rolling upgrades are not supported: no two releases serve together.", _OUTSIDE),
    Rule("outside.multi-region", "Nodes in several regions are not supported.", _OUTSIDE),
    Rule(
        "outside.supervisors", "Process supervisors and orchestrators other than Compose are not supported.", _OUTSIDE
    ),
    Rule("outside.kubernetes", "Helm charts and Kubernetes, managed or not, are not supported.", _OUTSIDE),
    Rule("outside.high-availability", "Nothing promises more than the small cluster's failure behaviour.", _OUTSIDE),
    Rule("protocol.timers", "A timer that a workflow started fires, once.", PROTOCOL),
    Rule("protocol.redelivery", "A failed workflow task is given out again, with a higher attempt.", PROTOCOL),
    Rule("protocol.heartbeats", "A heartbeat keeps the lease of a task.", PROTOCOL),
    Rule("protocol.repeated-polls", "A poll that is sent again under its request id gets its task again.", PROTOCOL),
    Rule("protocol.clocks", "The clocks of nodes agree, and agree with the one who looks.", PROTOCOL),
    Rule("protocol.history-order", "A run's history is read in the order in which it was written.", PROTOCOL),
    Rule("protocol.no-secret-told", "No secret is in a response or a log.", PROTOCOL),
)

BY_ID = {rule.id: rule for rule in RULES}
