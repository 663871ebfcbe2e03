"""A fresh Debian 12 with Python, python3-venv and git and nothing else, made by debootstrap: setup does the rest.

Takes minutes, needs root and debootstrap, and is run on demand: `pytest tests/fresh`. The chroot gets an engine of
its own (data root, socket, bridge, no packet filter), and namespaces of its own for processes and mounts, so that
nothing of it outlives the test. What a fresh machine has and a chroot hasn't is lent to it: name resolution, this
network's certificates, pip's settings.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from smallcluster.paths import CHECKOUT
from smallcluster.setup import apt
from smallcluster.setup.install import own_suites
from smallcluster.setup.machine import look_at_machine

RUN = "/run/fresh"
BRIDGE = "smallfresh0"
"""A bridge for the engine in the chroot. With `--bridge=none` it would delete docker0 under this machine's own."""
CGROUPS, CGROUP = Path("/sys/fs/cgroup"), "smallcluster-fresh"
ENGINE = {
    "DOCKER_HOST": f"unix://{RUN}/docker.sock",
    "FRESH_PIDFILE": f"{RUN}/docker.pid",
    "SMALLCLUSTER_DOCKERD_ARGS": f"--data-root=/var/lib/fresh --exec-root={RUN}/exec --pidfile={RUN}/docker.pid"
    f" --bridge={BRIDGE} --iptables=false --ip-masq=false --cgroup-parent={CGROUP}",
    "SMALLCLUSTER_DOCKERD_LOG": f"{RUN}/dockerd.log",
}
LENT = ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf", "/etc/xdg/pip")
SIOCSIFFLAGS, SIOCBRADDBR, SIOCBRDELBR = 0x8914, 0x89A0, 0x89A1
SESSION = """
mount -t proc proc "$0/proc" && mount --rbind /sys "$0/sys" && mount --rbind /dev "$0/dev"
exec chroot "$0" /bin/bash /root/checkout/tests/fresh/inside.sh
"""

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("debootstrap"), reason="needs root and debootstrap"
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder with what the session in the chroot left behind."""
    root = tmp_path_factory.mktemp("fresh") / "root"
    try:
        make_machine(root)
        make_bridge()
        session = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", SESSION, str(root)]
        ended = subprocess.run(session, env=environment(), stdout=sys.stderr, timeout=1200, check=False)
        assert ended.returncode == 0, "the session in the chroot broke off; its words are above"
        yield root / "results"
    finally:
        remove_bridge()
        remove_groups()
        subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=True)


def make_machine(root: Path) -> None:
    """Debian 12 with Python, venv and git, a clean clone, and what the network needs."""
    machine = look_at_machine()
    mirror = apt.debian_mirror(apt.read_sources(), machine.distribution, own_suites(machine))
    debootstrap = ["debootstrap", "--variant=minbase", "--include=python3-venv,git", "bookworm", str(root), mirror]
    subprocess.run(debootstrap, stdout=sys.stderr, check=True)
    for place in (Path(name) for name in LENT):
        if place.exists():
            target = root / place.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if place.is_dir() else shutil.copy
            copy(place, target)
    subprocess.run(["git", "clone", "--quiet", f"file://{CHECKOUT}", str(root / "root/checkout")], check=True)
    (root / "results").mkdir()
    (root / RUN.removeprefix("/")).mkdir(parents=True)


def make_bridge() -> None:
    """What `ip link add BRIDGE type bridge` does, where iproute2 is not installed."""
    with socket.socket() as kernel:
        fcntl.ioctl(kernel, SIOCBRADDBR, BRIDGE.encode() + b"\0")


def remove_bridge() -> None:
    """Take the bridge down, which the kernel wants first, and delete it; nothing where there is none."""
    if Path("/sys/class/net", BRIDGE).exists():
        with socket.socket() as kernel:
            fcntl.ioctl(kernel, SIOCSIFFLAGS, struct.pack("16sh14x", BRIDGE.encode(), 0))
            fcntl.ioctl(kernel, SIOCBRDELBR, BRIDGE.encode() + b"\0")


def remove_groups() -> None:
    """Remove the control groups that the killed engine left, the inner ones first."""
    tops = {folder.resolve() for above in ("", "*/") for folder in CGROUPS.glob(f"{above}{CGROUP}")}
    for top in tops:
        for folder, _, _ in os.walk(top, topdown=False):
            Path(folder).rmdir()


def environment() -> dict[str, str]:
    """What the person's shell has: the usual, this network's settings, and the engine's."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")}
    return kept | ENGINE | {"HOME": "/root", "LANG": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def report(results: Path, name: str) -> dict[str, dict[str, str]]:
    """The items of a setup or doctor run, by name."""
    items = json.loads((results / f"{name}.out").read_text())["items"]
    return {item["name"]: item for item in items}


def seconds(results: Path, name: str) -> float:
    return float((results / f"{name}.seconds").read_text())


def packages(results: Path, name: str) -> dict[str, str]:
    return dict(line.split() for line in (results / f"{name}.packages").read_text().splitlines())


def test_doctor_names_everything_that_is_missing(results: Path) -> None:
    assert (results / "doctor-before.status").read_text().strip() == "13"
    assert {item["state"] for item in report(results, "doctor-before").values()} == {"missing"}


def test_setup_supplies_everything(results: Path) -> None:
    assert not (results / "setup.status").exists()
    assert {item["state"] for item in report(results, "setup").values()} == {"done"}
    assert seconds(results, "setup") < 300


def test_second_run_does_nothing_and_is_quick(results: Path) -> None:
    assert {item["state"] for item in report(results, "again").values()} == {"present"}
    assert seconds(results, "again") < 3


def test_nothing_moved_but_what_was_added(results: Path) -> None:
    before, after = packages(results, "before"), packages(results, "after")
    assert {name: after.get(name) for name in before} == before
    assert {"docker.io", "docker-compose", "docker-buildx", "debootstrap"} <= after.keys()
    assert "\nInst " not in (results / "upgrade.out").read_text()


def test_mysql_is_mysql(results: Path) -> None:
    items = report(results, "setup")
    assert "smallcluster/mysql:local" in items["image mysql"]["seen"]
    assert items["image pgsql"]["seen"].startswith("17.")


def test_a_killed_engine_is_started_again(results: Path) -> None:
    assert report(results, "doctor-killed")["engine"]["state"] == "missing"
    after = report(results, "after-kill")
    assert after["engine"]["state"] == "done"
    assert {item["state"] for name, item in after.items() if name != "engine"} == {"present"}


def test_the_checkout_stays_clean(results: Path) -> None:
    assert (results / "status.out").read_text() == ""
