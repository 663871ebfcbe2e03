"""How setup runs commands, what it reports, and how it builds."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path

import pytest

from smallcluster.engine import Reach
from smallcluster.errors import MachineCannotError
from smallcluster.images import SERVICES, Image
from smallcluster.progress import Progress
from smallcluster.setup import build, wheels, workshop
from smallcluster.setup.machine import EngineState, Machine, Tools
from smallcluster.setup.report import SetupReport
from smallcluster.setup.survey import Look, items
from smallcluster.setup.workshop import Limits, Workshop

MACHINE = Machine("debian", "12", "Debian GNU/Linux 12 (bookworm)", "root")
TOOLS = Tools(cli=True, daemon=True, compose="2.26.1", buildx="0.13.1")
RUNS = EngineState(Reach.ANSWERS, local=True, version="20.10.24")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A workshop whose logs go to the test's folder."""
    monkeypatch.setattr(workshop, "LOGS", tmp_path)
    return Workshop(Progress(io.StringIO()), "root")


def image(service: str) -> Image:
    return Image(service, f"smallcluster/{service}:local", "built here", "sha256:1", "sha256:1", "1.0")


def test_a_commands_output_goes_to_its_log(shop: Workshop, tmp_path: Path) -> None:
    with shop.progress.step("a step") as step:
        shop.run(step, ["sh", "-c", "echo one; echo '#7 1.5 two' >&2"], log="a.log", limits=Limits(10))
        assert step.detail == "a: two"
    assert (tmp_path / "a.log").read_text().partition("\n")[2] == "one\n#7 1.5 two\n"


def test_a_failure_shows_the_end_of_the_output_and_the_log(shop: Workshop, tmp_path: Path) -> None:
    script = "for i in $(seq 30); do echo line $i; done; exit 7"
    with (
        pytest.raises(MachineCannotError, match="exited with 7") as failed,
        shop.progress.step("a step") as step,
    ):
        shop.run(step, ["sh", "-c", script], log="a.log", limits=Limits(10))
    assert "line 30" in failed.value.seen
    assert "line 18\n" not in failed.value.seen
    assert str(tmp_path / "a.log") in failed.value.then


def test_a_command_that_lasts_too_long_is_ended(shop: Workshop) -> None:
    began = time.monotonic()
    with pytest.raises(MachineCannotError, match="SIGTERM"), shop.progress.step("a step") as step:
        shop.run(step, ["sleep", "60"], log="a.log", limits=Limits(0.2))
    assert time.monotonic() - began < 10


def test_stopping_ends_what_runs_and_starts_nothing_more(shop: Workshop) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with shop.progress.step("a step") as step:
                shop.run(step, ["sh", "-c", "sleep 60 & wait"], log="a.log", limits=Limits(60))
        except MachineCannotError as error:
            failures.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    while not shop.running:
        assert worker.is_alive()
    shop.stop()
    worker.join(timeout=10)
    assert not worker.is_alive()
    assert "SIGTERM" in str(failures[0])
    with pytest.raises(MachineCannotError, match="being stopped"), shop.progress.step("a step") as step:
        shop.run(step, ["true"], log="a.log", limits=Limits(10))


def test_what_must_not_be_cut_short_gets_its_time(shop: Workshop, tmp_path: Path) -> None:
    done = tmp_path / "done"
    script = f"trap '' TERM; yes | head -c 200000; sleep 1; touch {done}"
    with shop.progress.step("a step") as step:
        shop.run(step, ["sh", "-c", script], log="a.log", limits=Limits(0.2, 30))
    assert done.exists()


def test_a_password_prompt_can_not_hang_a_command(shop: Workshop) -> None:
    with shop.progress.step("a step") as step:
        shop.run(step, ["sh", "-c", "read answer || echo nobody is there"], log="a.log", limits=Limits(10))
        assert step.detail == "a: nobody is there"


def test_what_was_supplied_is_marked_done() -> None:
    seen = Look(MACHINE, TOOLS, RUNS, {service: image(service) for service in SERVICES})
    report = SetupReport(items(seen, {"image mysql"}), 1.0)
    states = {item.name: item.state for item in report.items}
    assert states["image mysql"] == "done"
    assert states["image pgsql"] == states["engine"] == states["compose"] == "present"
    assert report.ready


def test_a_dead_engine_leaves_nothing_to_be_asked() -> None:
    trouble = MachineCannotError("No Docker engine answers at unix:///x.", then="invoke setup")
    seen = Look(MACHINE, TOOLS, EngineState(Reach.REFUSED, local=True, trouble=trouble))
    report = SetupReport(items(seen), 1.0)
    assert not report.ready
    missing = {item.name: item.fix for item in report.items if item.state == "missing"}
    assert missing == dict.fromkeys(["engine", *(f"image {service}" for service in SERVICES)], "invoke setup")


def test_an_image_with_another_product_is_missing() -> None:
    trouble = MachineCannotError("The image mysql:8.4 is not MySQL.", seen="it says MariaDB", then="docker image rm x")
    others: dict[str, Image | None] = {service: image(service) for service in SERVICES if service != "mysql"}
    report = items(Look(MACHINE, TOOLS, RUNS, others, {"mysql": trouble}))
    (mysql,) = (item for item in report if item.name == "image mysql")
    assert (mysql.state, mysql.fix) == ("missing", "docker image rm x")
    assert "MariaDB" in mysql.seen


def test_a_build_is_labelled_and_uses_the_hosts_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.crt"
    bundle.write_text("certificates")
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setenv("DOCKER_HOST", "unix:///x.sock")
    command = " ".join(build.build_command("redis", "some/redis:local", "some/debian:13", tmp_path))
    assert "--network host" in command
    assert "--builder default" in command
    assert "--build-arg BASE=some/debian:13" in command
    assert "--label io.smallcluster.image=redis --label io.smallcluster.recipe=" in command
    assert f"--secret id=certificates,src={bundle}" in command


def test_wheels_are_chosen_for_the_node_not_for_this_python() -> None:
    options = " ".join(wheels.platform_tags("arm64"))
    assert options.startswith("--python-version 3.13 --implementation cp")
    assert "manylinux_2_17_aarch64" in options
    assert "manylinux2014_aarch64" in options
    assert "x86_64" not in options


def test_an_engine_of_another_kind_is_refused() -> None:
    with pytest.raises(MachineCannotError, match="s390x"):
        wheels.platform_tags("s390x")
