from __future__ import annotations

import pytest
from dw_refserver import __version__
from dw_refserver.cli import main
from dw_refserver.settings import Queries, SettingsError, load


def test_the_published_defaults() -> None:
    settings = load({})
    assert (settings.poll_timeout, settings.workflow_task_lease, settings.retention_days) == (30, 60, 30)
    assert (settings.database.kind, settings.database.port, settings.redis.port) == ("mysql", 3306, 6379)
    assert (settings.bootstrap_retries, settings.bootstrap_delay, settings.scheduler_interval) == (30, 2, 10)
    assert (settings.http_port, settings.app_version, settings.max_payload_bytes) == (8080, "2.0.0", 2_097_152)


def test_a_query_waits_as_long_as_a_poll_and_is_leased_as_long_as_a_workflow_task_unless_told_otherwise() -> None:
    assert load({}).queries == Queries(timeout=30, lease=60, ttl=180, most_pending=1024)
    environ = {"DW_WORKER_POLL_TIMEOUT": "0", "DW_WORKFLOW_TASK_TIMEOUT": "7"}
    assert load(environ).queries == Queries(timeout=1, lease=7, ttl=180, most_pending=1024)


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"DB_PORT": "many"}, "DB_PORT"),
        ({"DB_CONNECTION": "oracle"}, "DB_CONNECTION"),
        ({"DB_CONNECTION": "sqlite"}, "DB_CONNECTION"),
        ({"CACHE_STORE": "file"}, "CACHE_STORE"),
        ({"DW_V2_MULTI_NODE": "true", "DB_CONNECTION": "sqlite"}, "DB_CONNECTION is sqlite while DW_V2_MULTI_NODE"),
        ({"DW_V2_MULTI_NODE": "1", "CACHE_STORE": "file"}, "CACHE_STORE is 'file' while DW_V2_MULTI_NODE"),
        ({"DW_V2_MULTI_NODE": "perhaps"}, "DW_V2_MULTI_NODE"),
        ({"DW_ACTIVITY_TASK_TIMEOUT": "0"}, "DW_ACTIVITY_TASK_TIMEOUT"),
        ({"QUEUE_CONNECTION": "database"}, "QUEUE_CONNECTION"),
        ({"DW_WORKFLOW_TASK_MAX_ACTIVE_LEASES_PER_QUEUE": "-1"}, "DW_WORKFLOW_TASK_MAX_ACTIVE_LEASES_PER_QUEUE"),
        (
            {"DW_ACTIVITY_TASK_MAX_ACTIVE_LEASES_PER_NAMESPACE": "few"},
            "DW_ACTIVITY_TASK_MAX_ACTIVE_LEASES_PER_NAMESPACE",
        ),
        ({"DW_QUERY_TASK_TIMEOUT": "0"}, "DW_QUERY_TASK_TIMEOUT"),
        ({"DW_QUERY_TASK_LEASE_TIMEOUT": "soon"}, "DW_QUERY_TASK_LEASE_TIMEOUT"),
        ({"DW_QUERY_TASK_TTL_SECONDS": "59"}, "DW_QUERY_TASK_TTL_SECONDS"),
        ({"DW_QUERY_TASK_MAX_PENDING_PER_QUEUE": "10001"}, "DW_QUERY_TASK_MAX_PENDING_PER_QUEUE"),
        ({"DW_AUTH_DRIVER": "ldap"}, "DW_AUTH_DRIVER"),
        ({"DW_SERIALIZER": "json"}, "DW_SERIALIZER"),
        ({"DW_WORKER_POLL_TIMEOUT": "-1"}, "DW_WORKER_POLL_TIMEOUT"),
        ({"DW_WORKER_POLL_TIMEOUT": "nan"}, "DW_WORKER_POLL_TIMEOUT"),
        ({"DW_HTTP_PORT": "8080.5"}, "DW_HTTP_PORT"),
        ({"DW_DEFAULT_NAMESPACE": "a b"}, "DW_DEFAULT_NAMESPACE"),
        ({"DW_EXPOSE_PACKAGE_PROVENANCE": "perhaps"}, "DW_EXPOSE_PACKAGE_PROVENANCE"),
        ({"DW_WORKER_PROTOCOL_VERSION": "2.0"}, "DW_WORKER_PROTOCOL_VERSION"),
    ],
)
def test_a_bad_value_is_one_sentence_that_names_the_variable(environ: dict[str, str], names: str) -> None:
    with pytest.raises(SettingsError, match=names) as raised:
        load(environ)
    assert "\n" not in str(raised.value)


def test_a_bad_environment_exits_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DB_PORT", "many")
    assert main(["bootstrap"]) == 2
    assert capsys.readouterr().err.startswith("dw-refserver: DB_PORT must be a number")


def test_its_version_needs_no_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DB_PORT", "many")
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"dw-refserver {__version__}\n"


def test_no_secret_in_what_a_refusal_says() -> None:
    with pytest.raises(SettingsError) as raised:
        load({"DW_AUTH_TOKEN": "hush", "DB_PASSWORD": "hush", "DW_AUTH_DRIVER": "ldap"})
    assert "hush" not in str(raised.value)
