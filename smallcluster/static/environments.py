"""What env files must say: ids of their own, and everything else alike."""

from __future__ import annotations

import re
from collections.abc import Sequence

from smallcluster.settings import Database
from smallcluster.static.base import MOST_NODES, Environments, shown, static
from smallcluster.verdicts import Judgement, broken, holds, unknown

CREDENTIALS = (
    "DW_AUTH_DRIVER", "DW_AUTH_TOKEN", "DW_WORKER_TOKEN", "DW_OPERATOR_TOKEN", "DW_ADMIN_TOKEN", "DW_SIGNATURE_KEY",
    "DW_WORKER_SIGNATURE_KEY", "DW_OPERATOR_SIGNATURE_KEY", "DW_ADMIN_SIGNATURE_KEY",
)  # fmt: skip
RELEASE = ("APP_VERSION", "DW_SERIALIZER")
STORES = ("CACHE_STORE", "QUEUE_CONNECTION")
REDIS = ("REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_CACHE_DB", "REDIS_PREFIX", "CACHE_PREFIX", "REDIS_PASSWORD")
DATABASE = ("DB_CONNECTION", "DB_HOST", "DB_PORT", "DB_DATABASE", "DB_USERNAME", "DB_PASSWORD")
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION", "FLY_REGION", "GOOGLE_CLOUD_REGION", "REGION", "DW_REGION")
REPLICAS = ("DB_READ_HOST", "DB_WRITE_HOST", "REDIS_CLUSTER", "REDIS_SENTINEL_HOST", "REDIS_SENTINELS",
            "REDIS_SENTINEL_SERVICE")  # fmt: skip
"""Variables that spread a service over several hosts."""
_OFF = ("", "0", "false", "off", "no", "null")


def _differing(seen: Environments, names: Sequence[str]) -> list[str]:
    """Which of the variables are not the same in every file."""
    return [name for name in names if len({seen.value(container, name) for container in seen.files}) > 1]


def _alike(seen: Environments, names: Sequence[str], needed: Sequence[str], cause: str) -> Judgement:
    """Judge variables that must be set (`needed`) and be the same in every file."""
    wrong = _differing(seen, names)
    missing = [name for name in needed if not all(seen.value(container, name) for container in seen.files)]
    if wrong or missing:
        return broken(
            *shown(seen, seen.files, dict.fromkeys([*wrong, *missing])),
            expected=f"the same {', '.join(dict.fromkeys([*wrong, *missing]))} in every file",
            cause=cause,
            then="correct the files by line, then repeat the command",
        )
    if len(seen.files) < 2:
        return unknown(cause="one file alone says nothing about the others: give every node's with --env=NAME=FILE.")
    first = next(iter(seen.files))
    return holds(*(f"everywhere: {told.partition(': ')[2]}" for told in shown(seen, [first], names)))


@static("env-names-two-or-three-nodes", "shape.nodes")
def env_names_two_or_three_nodes(seen: Environments) -> Judgement:
    """There are files for two or three API nodes."""
    nodes = ", ".join(seen.nodes) or "none"
    if len(seen.nodes) < 2:
        return unknown(f"nodes: {nodes}", cause="a small cluster has two or three: give every node's env file.")
    if len(seen.nodes) > MOST_NODES:
        return broken(
            f"nodes: {nodes}", expected="two or three nodes", cause="a larger cluster than the contract supports."
        )
    return holds(f"nodes: {nodes}")


@static("env-gives-each-node-an-id", "operator.server-id")
def env_gives_each_node_an_id(seen: Environments) -> Judgement:
    """Each node has a DW_SERVER_ID of its own."""
    evidence = shown(seen, seen.nodes, ["DW_SERVER_ID"])
    ids = [seen.value(node, "DW_SERVER_ID") for node in seen.nodes]
    if all(ids) and len(set(ids)) == len(ids):
        return holds(*evidence) if len(ids) > 1 else unknown(*evidence, cause="there is one node's file alone.")
    return broken(
        *evidence,
        expected="an id in every node's file, each another one",
        cause="one file was copied for every node.",
        then="set DW_SERVER_ID in each node's file",
    )


@static("env-has-the-same-credentials", "operator.same-credentials")
def env_has_the_same_credentials(seen: Environments) -> Judgement:
    """Every file has the same auth driver, tokens and signature keys, and there are some."""
    tokens = [name for name in CREDENTIALS[1:] if any(seen.value(container, name) for container in seen.files)]
    drivers = {seen.value(container, "DW_AUTH_DRIVER") for container in seen.files}
    if "none" in drivers or not tokens:
        return broken(
            *shown(seen, seen.files, ["DW_AUTH_DRIVER"]),
            expected="tokens or signature keys, and a driver that asks for them",
            cause="auth is off, or nobody has a token.",
            then="set DW_AUTH_DRIVER and the roles' tokens, alike in every file",
        )
    return _alike(seen, ["DW_AUTH_DRIVER", *tokens], tokens, "a token was changed in one file only.")


@static("env-is-one-release", "operator.same-version")
def env_is_one_release(seen: Environments) -> Judgement:
    """Every file names the same APP_VERSION and payload codec."""
    return _alike(seen, RELEASE, ["APP_VERSION"], "an upgrade that was made in one file only.")


@static("env-uses-one-redis", "operator.redis-settings", "outside.redis-less")
def env_uses_one_redis(seen: Environments) -> Judgement:
    """CACHE_STORE and QUEUE_CONNECTION are redis in every file, with the same Redis connection."""
    wrong = [name for name in STORES if any(seen.value(container, name) != "redis" for container in seen.files)]
    if wrong:
        return broken(
            *shown(seen, seen.files, wrong),
            expected=f"{' and '.join(wrong)}=redis in every file",
            cause="a default, or a single node's setting: several nodes need the shared Redis for wakes and locks.",
            then=f"set {', '.join(wrong)} to redis in every file",
        )
    return _alike(seen, REDIS, ["REDIS_HOST"], "nodes with two Redises, or two corners of one, never hear each other.")


@static("env-uses-one-database", "operator.database-settings", "shape.one-database", "outside.sqlite")
def env_uses_one_database(seen: Environments) -> Judgement:
    """DB_CONNECTION is mysql or pgsql in every file, with the same database connection."""
    kinds = {seen.value(container, "DB_CONNECTION") for container in seen.files}
    if not kinds <= {database.value for database in Database}:
        return broken(
            *shown(seen, seen.files, ["DB_CONNECTION"]),
            expected="DB_CONNECTION=mysql or pgsql in every file",
            cause="SQLite is a file of one node's own, and other databases are not supported."
            if kinds & {"", "sqlite"}
            else "another database than the contract supports.",
            then="set DB_CONNECTION to mysql or pgsql in every file",
        )
    return _alike(seen, DATABASE, ["DB_HOST", "DB_DATABASE"], "a node with a database of its own sees no other's work.")


@static("env-has-one-default-namespace", "api.namespaces-in-database")
def env_has_one_default_namespace(seen: Environments) -> Judgement:
    """Every file has the same default namespace."""
    return _alike(seen, ["DW_DEFAULT_NAMESPACE"], [], "a request without a namespace would go elsewhere on one node.")


@static("env-names-one-of-each-service", "outside.high-availability")
def env_names_one_of_each_service(seen: Environments) -> Judgement:
    """Database and Redis are one host each: no replicas, no sentinels."""
    hosts = [(container, name) for name in ("DB_HOST", "REDIS_HOST") for container in seen.files]
    several = [one for one in hosts if re.search(r"[,;\s]", seen.value(*one).strip())]
    several += [(c, name) for name in REPLICAS for c in seen.files if seen.value(c, name).lower() not in _OFF]
    if several:
        return broken(
            *(seen.told(*one) for one in several),
            expected="one host for the database and one for Redis",
            cause="replicas or sentinels, which promise a failure behaviour that the small cluster does not have.",
            then="name one host each, and leave failing over to the operator's runbook",
        )
    return holds(*(seen.told(*one) for one in hosts))


@static("env-names-one-region", "outside.multi-region")
def env_names_one_region(seen: Environments) -> Judgement:
    """No two files name different regions."""
    apart = [name for name in REGIONS if len({seen.value(one, name) for one in seen.files} - {""}) > 1]
    if apart:
        return broken(
            *shown(seen, seen.files, apart),
            expected="every container in one region",
            cause="nodes that stand far apart: every claim and every wake crosses the distance to one database.",
            then="run all of the cluster beside its database",
        )
    return holds(f"{len(seen.files)} files, no two regions")


@static("env-has-debug-off", "protocol.no-secret-told")
def env_has_debug_off(seen: Environments) -> Judgement:
    """Debugging is off: an error page tells nobody what the environment holds."""
    on = [one for one in seen.files if seen.value(one, "APP_DEBUG").lower() not in _OFF]
    if on:
        return broken(
            *shown(seen, on, ["APP_DEBUG"]),
            expected="APP_DEBUG=false or unset",
            cause="a setting from a developer's machine: its error pages tell settings and secrets.",
            then="set APP_DEBUG=false in every file",
        )
    return holds(f"{len(seen.files)} files, none with APP_DEBUG on")
