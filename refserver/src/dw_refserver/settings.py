"""The environment contract, read once into one frozen `Settings`.

Names and defaults are the published server's; `DW_SCHEDULER_INTERVAL_SECONDS` and `DW_SCHEDULER_BEAT_FILE` are ours.
Published names that stand for what this server doesn't do have no effect on it.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from dw_refserver.budgets import Budget, Budgets, overrides_of

WORKER, OPERATOR, ADMIN = "worker", "operator", "admin"
_DATABASES = {"mysql": 3306, "pgsql": 5432}


class SettingsError(Exception):
    """A variable that the server can't run with; the message is one sentence that names it."""


@dataclass(frozen=True)
class Auth:
    """Who may call: the driver, and a secret per role (`""` is the shared one)."""

    driver: str
    secrets: Mapping[str, str]
    backward_compatible: bool

    @property
    def shared_opens_everything(self) -> bool:
        """Whether the shared secret gives full access: no role has a secret of its own."""
        return self.backward_compatible and not any(self.secrets[role] for role in (WORKER, OPERATOR, ADMIN))

    @property
    def usable(self) -> bool:
        """Whether any caller can pass at all."""
        shared = self.secrets[""] if self.backward_compatible else ""
        return self.driver == "none" or any((shared, *(self.secrets[r] for r in (WORKER, OPERATOR, ADMIN))))


@dataclass(frozen=True)
class Database:
    """Where the truth is kept. `kind` is mysql or pgsql."""

    kind: str
    host: str
    port: int
    name: str
    user: str
    password: str

    @property
    def postgres(self) -> bool:
        """Whether it speaks PostgreSQL (else MySQL)."""
        return self.kind == "pgsql"


@dataclass(frozen=True)
class Redis:
    """Where wake signals travel."""

    host: str
    port: int
    user: str
    password: str
    number: int
    prefix: str


@dataclass(frozen=True)
class Queries:
    """How long a query's caller waits, a worker's lease on it lasts and Redis keeps it (seconds); how many may wait."""

    timeout: float
    lease: float
    ttl: int
    most_pending: int


@dataclass(frozen=True)
class Settings:
    """Everything the server is told. Durations are seconds unless a name says otherwise."""

    server_id: str
    app_version: str
    default_namespace: str
    auth: Auth
    database: Database
    redis: Redis
    http_host: str
    http_port: int
    poll_timeout: float
    reprobe_interval: float
    workflow_task_lease: float
    activity_task_lease: float
    queries: Queries
    budgets: Budgets
    heartbeat_interval: int
    stale_after: int
    retention_days: int
    max_payload_bytes: int
    max_memo_bytes: int
    protocol_version: str
    bootstrap_retries: int
    bootstrap_delay: float
    expose_provenance: bool
    scheduler_interval: float
    scheduler_beat_file: str


class _Reader:
    """Reads typed values out of an environment."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ

    def text(self, name: str, default: str = "") -> str:
        """Empty counts as unset, as it does for the published server."""
        return self.environ.get(name, "") or default

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name, default)
        if value not in allowed:
            raise SettingsError(f"{name} must be {' or '.join(allowed)}, but is '{value}'.")
        return value

    def number(self, name: str, default: float, least: float, most: float) -> float:
        value = self.text(name, f"{default:.15g}")
        if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", value) or not least <= float(value) <= most:
            raise SettingsError(f"{name} must be a number from {least:.15g} to {most:.15g}, but is '{value}'.")
        return float(value)

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        value = self.number(name, default, least, most)
        if value != int(value):
            raise SettingsError(f"{name} must be a whole number, but is '{value:g}'.")
        return int(value)

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.text(name, "true" if default else "false").lower()
        if value not in ("true", "false", "1", "0", "yes", "no", "on", "off"):
            raise SettingsError(f"{name} must be true or false, but is '{value}'.")
        return value in ("true", "1", "yes", "on")


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the whole contract; raise `SettingsError` for the first value that can't be used."""
    read = _Reader(environ)
    _check_shared(read)
    poll_timeout = read.number("DW_WORKER_POLL_TIMEOUT", 30, 0, 60)
    workflow_task_lease = read.number("DW_WORKFLOW_TASK_TIMEOUT", 60, 1, 86_400)
    heartbeat = read.whole("DW_WORKER_HEARTBEAT_INTERVAL_SECONDS", 10, 1, 3600)
    read.choice("DW_SERIALIZER", "avro", ("avro",))
    return Settings(
        server_id=read.text("DW_SERVER_ID", socket.gethostname()),
        app_version=read.text("APP_VERSION", "2.0.0"),
        default_namespace=_namespace(read),
        auth=_auth(read),
        database=_database(read),
        redis=_redis(read),
        http_host=read.text("DW_HTTP_HOST", "0.0.0.0"),  # noqa: S104 - a container's port is published by its engine
        http_port=read.whole("DW_HTTP_PORT", 8080, 0, 65535),
        poll_timeout=poll_timeout,
        reprobe_interval=read.whole("DW_WORKER_POLL_INTERVAL_MS", 1000, 50, 60_000) / 1000,
        workflow_task_lease=workflow_task_lease,
        activity_task_lease=read.number("DW_ACTIVITY_TASK_TIMEOUT", 300, 1, 86_400),
        queries=Queries(
            timeout=read.number("DW_QUERY_TASK_TIMEOUT", max(poll_timeout, 1), 1, 60),
            lease=read.number("DW_QUERY_TASK_LEASE_TIMEOUT", workflow_task_lease, 1, 86_400),
            ttl=read.whole("DW_QUERY_TASK_TTL_SECONDS", 180, 60, 86_400),
            most_pending=read.whole("DW_QUERY_TASK_MAX_PENDING_PER_QUEUE", 1024, 1, 10_000),
        ),
        budgets=_budgets(read),
        heartbeat_interval=heartbeat,
        stale_after=read.whole("DW_WORKER_STALE_AFTER_SECONDS", max(3 * heartbeat, 30), 1, 86_400),
        retention_days=read.whole("DW_HISTORY_RETENTION_DAYS", 30, 1, 365),
        max_payload_bytes=read.whole("DW_MAX_PAYLOAD_BYTES", 2_097_152, 1024, 2**28),
        max_memo_bytes=read.whole("DW_MAX_MEMO_BYTES", 262_144, 1, 2**24),
        protocol_version=_protocol_version(read),
        bootstrap_retries=read.whole("DW_BOOTSTRAP_RETRIES", 30, 1, 10_000),
        bootstrap_delay=read.number("DW_BOOTSTRAP_DELAY_SECONDS", 2, 0, 600),
        expose_provenance=read.flag("DW_EXPOSE_PACKAGE_PROVENANCE", default=False),
        scheduler_interval=read.number("DW_SCHEDULER_INTERVAL_SECONDS", 10, 0.05, 3600),
        scheduler_beat_file=read.text("DW_SCHEDULER_BEAT_FILE", "/tmp/scheduler.beat"),  # noqa: S108 - its container's
    )


def _check_shared(read: _Reader) -> None:
    """Several nodes need a database and wake signals that all of them reach."""
    if not read.flag("DW_V2_MULTI_NODE", default=False):
        return
    if read.text("DB_CONNECTION") == "sqlite":
        why = "each node would have a SQLite file of its own; use mysql or pgsql"
        raise SettingsError(f"DB_CONNECTION is sqlite while DW_V2_MULTI_NODE is on, but {why}.")
    store = read.text("CACHE_STORE", "redis")
    if store != "redis":
        why = "several nodes wake one another's polls through Redis; use redis"
        raise SettingsError(f"CACHE_STORE is '{store}' while DW_V2_MULTI_NODE is on, but {why}.")


def _namespace(read: _Reader) -> str:
    name = read.text("DW_DEFAULT_NAMESPACE", "default").lower()
    if not re.fullmatch(r"[a-z0-9._-]{1,128}", name):
        allowed = "letters, digits, dot, dash and underscore"
        raise SettingsError(f"DW_DEFAULT_NAMESPACE may hold {allowed}, but is '{name}'.")
    return name


def _auth(read: _Reader) -> Auth:
    driver = read.choice("DW_AUTH_DRIVER", "token", ("none", "token", "signature"))
    roles = {"": "", WORKER: "WORKER_", OPERATOR: "OPERATOR_", ADMIN: "ADMIN_"}
    tokens = {role: read.text(f"DW_{part or 'AUTH_'}TOKEN") for role, part in roles.items()}
    keys = {role: read.text(f"DW_{part}SIGNATURE_KEY") for role, part in roles.items()}
    compatible = read.flag("DW_AUTH_BACKWARD_COMPATIBLE", default=True)
    return Auth(driver, keys if driver == "signature" else tokens, compatible)


def _database(read: _Reader) -> Database:
    kind = read.choice("DB_CONNECTION", "mysql", tuple(_DATABASES))
    return Database(
        kind=kind,
        host=read.text("DB_HOST", "127.0.0.1"),
        port=read.whole("DB_PORT", _DATABASES[kind], 1, 65535),
        name=read.text("DB_DATABASE", "durable_workflow"),
        user=read.text("DB_USERNAME", "workflow"),
        password=read.text("DB_PASSWORD"),
    )


def _budgets(read: _Reader) -> Budgets:
    def limit(kind: str, scope: str) -> int | None:
        """0 is no limit."""
        return read.whole(f"DW_{kind.upper()}_TASK_MAX_ACTIVE_LEASES_PER_{scope}", 0, 0, 1_000_000_000) or None

    general = {kind: Budget(limit(kind, "QUEUE"), limit(kind, "NAMESPACE")) for kind in ("workflow", "activity")}
    try:
        overrides = overrides_of(read.text("DW_TASK_QUEUE_ADMISSION_OVERRIDES", "{}"))
    except ValueError as why:
        raise SettingsError(f"DW_TASK_QUEUE_ADMISSION_OVERRIDES {why}.") from None
    return Budgets(general, overrides)


def _redis(read: _Reader) -> Redis:
    for name in ("CACHE_STORE", "QUEUE_CONNECTION"):
        read.choice(name, "redis", ("redis",))
    return Redis(
        host=read.text("REDIS_HOST", "127.0.0.1"),
        port=read.whole("REDIS_PORT", 6379, 1, 65535),
        user=read.text("REDIS_USERNAME"),
        password=read.text("REDIS_PASSWORD"),
        number=read.whole("REDIS_DB", 0, 0, 65535),
        prefix=read.text("REDIS_PREFIX", "dw:"),
    )


def _protocol_version(read: _Reader) -> str:
    version = read.text("DW_WORKER_PROTOCOL_VERSION", "1.20")
    if not re.fullmatch(r"1\.[0-9]{1,2}", version):
        raise SettingsError(f"DW_WORKER_PROTOCOL_VERSION must look like 1.20, but is '{version}'.")
    return version
