"""What the two databases spell differently."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from smallcluster.database import client_command, days_ago
from smallcluster.settings import Database

SQL = "SELECT 'it''s $HOME' WHERE \"a\" = '`x`'"


@pytest.mark.parametrize(
    ("db", "program", "environment"),
    [
        (Database.PGSQL, "psql", {"POSTGRES_PASSWORD": "secret", "POSTGRES_USER": "u", "POSTGRES_DB": "d"}),
        (Database.MYSQL, "mysql", {"MYSQL_PASSWORD": "secret", "MYSQL_USER": "u", "MYSQL_DATABASE": "d"}),
    ],
)
def test_the_statement_arrives_whole_and_no_argument_holds_the_password(
    db: Database, program: str, environment: dict[str, str], tmp_path: Path
) -> None:
    fake = tmp_path / program
    fake.write_text('#!/bin/sh\nfor each in "$@"; do printf "%s\\n" "$each"; done\nenv | grep -c secret\n')
    fake.chmod(0o755)
    command = client_command(db, SQL)
    assert "secret" not in " ".join(command)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    said = subprocess.run(command, env=path | environment, capture_output=True, text=True, check=True).stdout
    assert SQL in said.replace("--command=", "").replace("--execute=", "").splitlines()
    assert "secret" not in said


def test_a_moment_days_ago() -> None:
    assert days_ago(Database.PGSQL, 1.5) == "now() - interval '2160 minutes'"
    assert days_ago(Database.MYSQL, 0.5) == "utc_timestamp(6) - interval 720 minute"
