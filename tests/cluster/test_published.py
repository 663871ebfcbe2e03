"""The published server's overlay: what Compose makes of it, and that an image with its commands runs under it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smallcluster import render
from smallcluster.cluster import Cluster
from smallcluster.flavours import Flavour
from smallcluster.images import Image, resolve_service
from smallcluster.settings import load

from .conftest import Invoke, containers, leftovers

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

PUBLISHED = "durableworkflow/server:0.2.10"
STAND_IN = "smallcluster-test/published:stand-in"


@pytest.fixture(scope="module")
def stand_in(client: Any) -> Iterator[str]:
    """An image with the published one's commands; gone afterwards."""
    base = resolve_service("server").ref
    command = ["docker", "buildx", "build", "--quiet", "--load", "--build-arg", f"BASE={base}", "--tag", STAND_IN]
    subprocess.run([*command, str(Path(__file__).parent / "published")], check=True, capture_output=True)
    yield STAND_IN
    client.images.remove(STAND_IN, force=True)


def configured(client: Any, db: str, state: Path) -> dict[str, Any]:
    """What Compose makes of the files, with the published image's name."""
    settings = load(db, exported={}, published=True, state=state, nodes=3)
    render.render(settings)
    image = Image("server", PUBLISHED, "pulled", "sha256:0", "sha256:0", "not stated", Flavour.PUBLISHED)
    cluster = Cluster(settings=settings, images=dict.fromkeys(("server", db, "redis", "nginx"), image), client=client)
    outcome = cluster.compose.run("config", "--format", "json")
    assert outcome.status == 0, outcome.output
    found: dict[str, Any] = json.loads(outcome.output)
    return found["services"]


def test_the_overlay_runs_the_published_images_own_commands(client: Any, db: str, tmp_path: Path) -> None:
    services = configured(client, db, tmp_path)
    ours = {name: one for name, one in services.items() if one["image"] == PUBLISHED}
    assert {"server-a", "server-b", "server-c", "bootstrap", "scheduler"} <= set(ours)
    assert [services[f"server-{node}"].get("command") for node in "abc"] == [None] * 3
    assert services["bootstrap"]["command"] == ["server-bootstrap"]
    loop = services["scheduler"]["command"][-1]
    for name in ("schedule:evaluate", "activity:timeout-enforce", "history:prune"):
        assert f"php artisan {name} --limit=100" in loop
    assert 'sleep "$$DW_SCHEDULER_INTERVAL_SECONDS"' in loop
    assert services["scheduler"]["environment"]["DW_SCHEDULER_INTERVAL_SECONDS"] == "10"
    for node in "abc":
        assert services[f"server-{node}"]["healthcheck"]["test"][-1] == "http://127.0.0.1:8080/api/ready"
        environment = services[f"server-{node}"]["environment"]
        assert environment["APP_KEY"].startswith("base64:")
        assert (environment["CACHE_STORE"], environment["DW_SERVER_ID"]) == ("redis", f"server-{node}")


@pytest.mark.once
@pytest.mark.usefixtures("nothing_running")
def test_a_cluster_of_such_an_image_is_brought_up_and_proven(
    invoke: Invoke, client: Any, db: str, stand_in: str
) -> None:
    ran = invoke("smoke", f"--db={db}", f"--image={stand_in}", "--keep", "--json")
    assert ran.code == 0, ran.out
    server = ran.data["images"]["server"]
    assert (server["flavour"], server["version"]) == ("published", "0.0.1-stand-in (label)")
    assert "php artisan" in " ".join(containers(client, db)["scheduler"].command)
    again = invoke("smoke", f"--db={db}", f"--image={resolve_service('server').ref}")
    assert again.code == 12
    assert "server-a runs another image" in again.err
    assert invoke("down", f"--db={db}").code == 0
    assert not leftovers(client, db)


@pytest.mark.once
def test_an_image_that_is_not_here_or_no_server_is_refused(invoke: Invoke, client: Any, db: str) -> None:
    nothing_in_it = bytes(10_240)  # an empty tar archive
    imported = client.api.import_image_from_data(nothing_in_it, repository="smallcluster-test/empty", tag="1")
    assert "error" not in imported, imported
    for image, code, words in (
        ("smallcluster-test/nothing:1", 13, "could not be pulled"),
        ("smallcluster-test/empty:1", 12, "is not a Durable Workflow Server"),
        (resolve_service("redis").ref, 12, "is not a Durable Workflow Server"),
    ):
        ran = invoke("smoke", f"--db={db}", f"--image={image}")
        assert ran.code == code, ran.err
        assert words in ran.err
    client.images.remove("smallcluster-test/empty:1", force=True)
    assert not client.containers.list(all=True, filters={"label": "io.smallcluster.image=version-question"})
    assert not leftovers(client, db)
