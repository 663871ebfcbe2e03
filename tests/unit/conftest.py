"""Unit tests need no Docker and no network: a socket that leaves this machine's memory is an error."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from smallcluster.settings import Settings, load

ENV = {
    "cluster.env": "APP_VERSION=0.1.0\nDW_AUTH_TOKEN=\nDW_WORKER_POLL_TIMEOUT=30\nREDIS_PASSWORD=\n"
    "DB_DATABASE=app\nDB_USERNAME=user\nDB_PASSWORD=\n",
    "mysql.env": "DB_CONNECTION=mysql\nDB_ROOT_PASSWORD=\n",
    "pgsql.env": "DB_CONNECTION=pgsql\n",
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection except to a unix socket that a test made itself."""
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            raise AssertionError(f"a unit test connected to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def env_folder(tmp_path: Path) -> Path:
    """A small env folder with the three layers, to be changed by the test."""
    folder = tmp_path / "env"
    folder.mkdir()
    for name, text in ENV.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def settings(env_folder: Path, tmp_path: Path) -> Settings:
    """Settings of a two-node MySQL cluster, rendered under the test's own folder."""
    return load("mysql", exported={}, env_folder=env_folder, state=tmp_path / "state")
