"""Static checks of env files: those of an operator, and the ones that are rendered here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from invoke import Exit

from smallcluster import static, verbs_on_files
from smallcluster.contract import BY_ID
from smallcluster.envfile import Line
from smallcluster.errors import AskedWronglyError
from smallcluster.settings import load
from smallcluster.static.base import Environments, environments, files_named, rendered
from smallcluster.verdicts import Finding

GOOD = {
    "APP_VERSION": "1.2", "DW_SERIALIZER": "avro", "DW_AUTH_DRIVER": "token", "DW_WORKER_TOKEN": "secret-w",
    "DW_ADMIN_TOKEN": "secret-a", "CACHE_STORE": "redis", "QUEUE_CONNECTION": "redis", "REDIS_HOST": "r",
    "REDIS_PREFIX": "p", "DB_CONNECTION": "pgsql", "DB_HOST": "d", "DB_DATABASE": "w", "DW_DEFAULT_NAMESPACE": "n",
}  # fmt: skip


def seen(count: int = 2, **last: str | None) -> Environments:
    """So many nodes' environments, the last one with these changes (None: not set)."""
    names = [f"server-{letter}" for letter in "abcd"[:count]]
    files = {name: GOOD | {"DW_SERVER_ID": name} for name in names}
    changed = {key: value for key, value in (files[names[-1]] | last).items() if value is not None}
    files[names[-1]] = changed
    return Environments({
        name: {key: Line(key, one[key], f"{name}.env:{number}", name) for number, key in enumerate(one, 1)}
        for name, one in files.items()
    })  # fmt: skip


def judged(given: Environments) -> dict[str, Finding]:
    return {one.id: one.run(given) for one in static.OF_ENVIRONMENTS}


def not_holding(given: Environments) -> dict[str, str]:
    return {name: one.verdict.value for name, one in judged(given).items() if one.verdict.value != "holds"}


@pytest.mark.parametrize("count", [2, 3])
def test_files_that_agree_hold(count: int) -> None:
    assert not_holding(seen(count)) == {}


@pytest.mark.parametrize(
    ("changed", "check"),
    [
        ({"DW_SERVER_ID": "server-a"}, "env-gives-each-node-an-id"),
        ({"DW_SERVER_ID": None}, "env-gives-each-node-an-id"),
        ({"DW_WORKER_TOKEN": "other"}, "env-has-the-same-credentials"),
        ({"DW_ADMIN_TOKEN": None}, "env-has-the-same-credentials"),
        ({"DW_SIGNATURE_KEY": "only-here"}, "env-has-the-same-credentials"),
        ({"DW_AUTH_DRIVER": "none"}, "env-has-the-same-credentials"),
        ({"APP_VERSION": "1.3"}, "env-is-one-release"),
        ({"DB_READ_HOST": "replica"}, "env-names-one-of-each-service"),
        ({"REDIS_CLUSTER": "true"}, "env-names-one-of-each-service"),
        ({"APP_DEBUG": "true"}, "env-has-debug-off"),
        ({"APP_DEBUG": "1"}, "env-has-debug-off"),
        ({"DW_SERIALIZER": "json"}, "env-is-one-release"),
        ({"APP_VERSION": None}, "env-is-one-release"),
        ({"CACHE_STORE": "file"}, "env-uses-one-redis"),
        ({"CACHE_STORE": None}, "env-uses-one-redis"),
        ({"QUEUE_CONNECTION": "sync"}, "env-uses-one-redis"),
        ({"REDIS_HOST": "other"}, "env-uses-one-redis"),
        ({"REDIS_PREFIX": "other"}, "env-uses-one-redis"),
        ({"REDIS_DB": "3"}, "env-uses-one-redis"),
        ({"DB_CONNECTION": "sqlite"}, "env-uses-one-database"),
        ({"DB_CONNECTION": "mysql"}, "env-uses-one-database"),
        ({"DB_HOST": "other"}, "env-uses-one-database"),
        ({"DB_DATABASE": None}, "env-uses-one-database"),
        ({"DW_DEFAULT_NAMESPACE": "other"}, "env-has-one-default-namespace"),
    ],
)
def test_one_file_that_differs_is_broken_and_named_by_line(changed: dict[str, str | None], check: str) -> None:
    given = seen(**changed)
    found = judged(given)
    assert not_holding(given) == {check: "broken"}
    [name] = changed
    line = given.files["server-b"].get(name)
    assert (line.where if line else f"server-b: {name} is not set") in " ".join(found[check].judgement.evidence)
    assert "secret" not in " ".join(found[check].judgement.evidence)


def test_one_file_alone_and_too_many() -> None:
    assert set(not_holding(seen(1)).values()) == {"unknown"}
    of_one = {"env-names-one-of-each-service", "env-names-one-region", "env-has-debug-off"}
    assert set(not_holding(seen(1))) == {check.id for check in static.OF_ENVIRONMENTS} - of_one
    assert not_holding(seen(4)) == {"env-names-two-or-three-nodes": "broken"}


def test_nobody_has_a_token() -> None:
    bare = seen()
    for lines in bare.files.values():
        for name in ("DW_WORKER_TOKEN", "DW_ADMIN_TOKEN"):
            del lines[name]  # type: ignore[attr-defined]
    assert not_holding(bare) == {"env-has-the-same-credentials": "broken"}


@pytest.mark.parametrize("db", ["mysql", "pgsql"])
@pytest.mark.parametrize("nodes", [2, 3])
def test_what_is_rendered_here_holds(db: str, nodes: int, tmp_path: Path) -> None:
    assert not_holding(rendered(load(db, nodes=nodes, exported={}, state=tmp_path))) == {}


TEXT = "".join(f"{name}={value}\n" for name, value in GOOD.items())


@pytest.mark.parametrize(
    "content",
    [
        TEXT, "\ufeff" + TEXT, TEXT.replace("\n", "\r\n"), TEXT.replace("APP_VERSION=", "export APP_VERSION="),
        TEXT.replace("=1.2", '="1.2"').replace("=redis", "='redis'"), "# a comment\n\n" + TEXT,
    ],
    ids=["plain", "mark", "crlf", "export", "quotes", "comments"],
)  # fmt: skip
def test_env_files_are_read_as_they_are_written(content: str, tmp_path: Path) -> None:
    for name in ("server-a", "server-b"):
        (tmp_path / name).write_bytes(f"{content}DW_SERVER_ID={name}\n".encode())
    assert not_holding(environments({name: tmp_path / name for name in ("server-a", "server-b")})) == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"APP_VERSION\n", "env:1"), (b"A=1\nA=2\n", "second time"), (b"\xff=1\n", "can't be read"),
     (b"DW_SERVR_ID=a\n", "DW_SERVER_ID")],
)  # fmt: skip
def test_what_can_not_be_read_is_refused_with_the_reason(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.env"
    path.write_bytes(content)
    with pytest.raises(AskedWronglyError) as refused:
        environments({"a": path})
    assert said in str(refused.value)


@pytest.mark.parametrize("words", [["a"], ["=a.env"], ["a="], ["a=x", "a=y"]])
def test_words_that_are_no_name_and_file_are_refused(words: list[str]) -> None:
    with pytest.raises(AskedWronglyError):
        files_named(words)


def test_the_verb_on_an_operators_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("server-a", "server-b"):
        (tmp_path / name).write_text(f"{TEXT}DW_SERVER_ID=same\n")
    words = [f"{name}={tmp_path / name}" for name in ("server-a", "server-b")]
    with pytest.raises(Exit) as ended:
        verbs_on_files.check(db="", nodes="", env=words, nginx="", compose="", json=False, debug=False)
    assert ended.value.code == 10
    out = capsys.readouterr().out
    assert f"{tmp_path}/server-b:14: DW_SERVER_ID=same" in out
    assert out.splitlines()[-1] == "✗ Verdict: BROKEN (files; 9 holds, 1 broken, 0 unknown; exit 10)"
    with pytest.raises(Exit):
        verbs_on_files.check(db="", nodes="", env=words, nginx="", compose="", json=True, debug=False)
    data = json.loads(capsys.readouterr().out)
    assert (data["schema"], data["verdict"], len(data["checks"])) == ("smallcluster.check/1", "broken", 10)


@pytest.mark.parametrize(("db", "env"), [("", []), ("mysql", ["a=b"]), ("sqlite", []), ("", ["a=/nowhere"])])
def test_what_is_asked_wrongly_ends_with_12(db: str, env: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exit) as ended:
        verbs_on_files.check(db=db, nodes="", env=env, nginx="", compose="", json=False, debug=False)
    assert ended.value.code == 12
    assert "Next:" in capsys.readouterr().err


def test_ids_are_unique_and_rules_exist() -> None:
    assert len({check.id for check in static.ALL}) == len(static.ALL)
    assert all(rule in BY_ID for check in static.ALL for rule in check.rules)


def test_one_host_each_and_one_region() -> None:
    assert judged(seen(DB_HOST="a,b"))["env-names-one-of-each-service"].verdict.value == "broken"
    assert not_holding(seen(REDIS_CLUSTER="false", APP_DEBUG="false", AWS_REGION="here")) == {}
    one, other = seen(AWS_REGION="here"), seen(AWS_REGION="there")
    apart = Environments({"server-a": one.files["server-b"], "server-b": other.files["server-b"]})
    assert judged(apart)["env-names-one-region"].verdict.value == "broken"
