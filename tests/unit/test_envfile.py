"""One env file: what is read, and the sentence with file:line that each malformed one gets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smallcluster import envfile
from smallcluster.errors import AskedWronglyError, ExitCode


def read(tmp_path: Path, text: str) -> dict[str, envfile.Line]:
    path = tmp_path / "x.env"
    path.write_text(text)
    return envfile.read(path, "env/x.env")


def test_values_keep_their_place(tmp_path: Path) -> None:
    lines = read(tmp_path, "# a comment\n\nAPP_VERSION=1.2\n\n\nDB_HOST='my database'\n")
    assert (lines["APP_VERSION"].value, lines["APP_VERSION"].where) == ("1.2", "env/x.env:3")
    assert (lines["DB_HOST"].value, lines["DB_HOST"].where) == ("my database", "env/x.env:6")


@pytest.mark.parametrize(
    ("text", "where", "word"),
    [
        ("A=1\nNONSENSE\n", "env/x.env:2", "not NAME=value"),
        ("A=1\n\n=3\n", "env/x.env:3", "not NAME=value"),
        ("2BAD=x\n", "env/x.env:1", "not NAME=value"),
        ("A='unfinished\n", "env/x.env:1", "not NAME=value"),
        ("A=1\n  \n\nB='x\n", "env/x.env:4", "not NAME=value"),
        ("A=1\r\n\r\nNONSENSE\r\n", "env/x.env:3", "not NAME=value"),
        ("A=1\nB=2\nA=3\n", "env/x.env:3", "second time"),
        ("DW_AUTH_TOKN=x\n", "env/x.env:1", "DW_AUTH_TOKEN"),
        ("DB_PASSWORD=pa$$word\n", "env/x.env:1", "contains a $"),
        ('A="two\nlines"\n', "env/x.env:1", "line break"),
        ('A="it\'s"\n', "env/x.env:1", "quote or backslash"),
        ("A=C:\\\\temp\n", "env/x.env:1", "backslash"),
    ],
)
def test_bad_lines_are_refused_with_file_and_line(tmp_path: Path, text: str, where: str, word: str) -> None:
    with pytest.raises(AskedWronglyError) as caught:
        read(tmp_path, text)
    assert caught.value.code is ExitCode.ASKED_WRONGLY
    assert caught.value.what.startswith(f"{where}:")
    assert word in str(caught.value)


@pytest.mark.parametrize(
    "line",
    ["DB_PASSWORD='hunter2", "DW_AUTH_TOKEN: hunter2", "export DW_AUTH_TOKEN='hunter2", "DW_AUTH_TOKEN ='hunter2"],
)
def test_a_malformed_secret_is_not_shown(tmp_path: Path, line: str) -> None:
    with pytest.raises(AskedWronglyError) as caught:
        read(tmp_path, f"{line}\n")
    assert "hunter2" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AskedWronglyError, match=r"env/gone.env: there is no such file"):
        envfile.read(tmp_path / "gone.env", "env/gone.env")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.env"
    path.write_bytes(b"A=\xff\xfe\n")
    with pytest.raises(AskedWronglyError, match="can't be read"):
        envfile.read(path, "env/x.env")


def test_families_of_names_are_known_by_prefix(tmp_path: Path) -> None:
    assert read(tmp_path, "DW_V2_LIMIT_PENDING_TIMERS=5\n")["DW_V2_LIMIT_PENDING_TIMERS"].value == "5"


SAFE = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_characters="'$\\\x7f\x85\u2028\u2029"))


@given(SAFE)
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    path = tmp_path_factory.mktemp("env") / "x.env"
    path.write_text(envfile.text_of({"NAME": value}, "a test"), encoding="utf-8")
    found = envfile.read(path, "x.env")["NAME"].value
    assert found == value
