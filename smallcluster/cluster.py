"""The running cluster: up, down, one-shot jobs, logs, addresses. Compose acts; the Docker SDK observes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Literal, cast

from smallcluster import database, engine, files, further_node, interrupts, locks, waiting
from smallcluster.compose import Compose, Outcome
from smallcluster.containers import BALANCER, Container, read_containers
from smallcluster.errors import ClusterBrokenError, MachineCannotError
from smallcluster.further_node import FurtherNode
from smallcluster.milestones import Milestones
from smallcluster.paths import CHECKOUT
from smallcluster.progress import Progress, Step
from smallcluster.redaction import redact
from smallcluster.settings import Database, Settings
from smallcluster.teardown import take_down, volumes_of

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container as Handle

    from smallcluster.images import Image

COMPOSE_FOLDER = CHECKOUT / "compose"
UP_DEADLINE = 180.0
"""Seconds that Compose gets to bring everything up; a database's first start on a slow disk fits."""
READY_DEADLINE = 30.0
"""Seconds from Compose's last step until every route answers /api/ready with 200."""
STOP_SECONDS = 5
"""How long a node may take to end by itself when it is told to (compose/cluster.yaml says the same)."""


def image_name(service: str, db: Database) -> str:
    """Which of the images a service runs: mysql, pgsql, redis, nginx or server."""
    return {"database": db.value, "redis": "redis", BALANCER: "nginx"}.get(service, "server")


def compose_of(settings: Settings, flavour: str, refs: Mapping[str, str]) -> Compose:
    """The Compose invocation of a cluster of such servers, with images by the names that `image_name` gives.

    Raises MachineCannotError where Compose is missing.
    """
    chosen = ["cluster.yaml", f"{settings.db.value}.yaml", f"server-{flavour}.yaml"]
    services = {"NGINX": "nginx", "REDIS": "redis", "DATABASE": settings.db.value, "SERVER": "server"}
    images = {  # Compose wants a word for the image of a service that is not used, too
        f"SMALLCLUSTER_{name}_IMAGE": refs.get(image, "none") for name, image in services.items()
    }
    return Compose(
        command=tuple(engine.compose_command()),
        project=settings.project,
        files=tuple(COMPOSE_FOLDER / name for name in [*chosen, *(["outside.yaml"] if settings.outside else [])]),
        variables=images | {"SMALLCLUSTER_STATE": str(settings.folder)},
        profiles=tuple(_profiles(settings)),
        guard=files.folder(settings.folder) / locks.CHILDREN,
    )


def _profiles(settings: Settings) -> Iterator[str]:
    """The parts of the topology that not every cluster has."""
    yield from (f"own-{service}" for service in settings.own)
    if settings.nodes == 3:
        yield "three-nodes"


Died = Callable[[str], int | None]
"""Tells of a container's id with which status it died, as soon as the engine has said so; None until then."""

_ASKED_AFTER = 3.0
"""Seconds after which a container is asked whether it runs, although no event has told of its end."""


class Standing(Enum):
    """How much of the topology is there."""

    ABSENT = "nothing is there"
    STOPPED = "everything that keeps data is there, nothing runs"
    LIMPING = "everything is there, a part of it does not run"
    RUNNING = "everything is there and runs"


@dataclass(frozen=True)
class Cluster:
    """One Compose project of this checkout. Holds no state of its own: every look asks the engine again."""

    settings: Settings
    images: Mapping[str, Image]
    client: DockerClient

    @cached_property
    def compose(self) -> Compose:
        """The project's Compose invocation."""
        return compose_of(
            self.settings, str(self.images["server"].flavour), {name: i.ref for name, i in self.images.items()}
        )

    def containers(self) -> dict[str, Container]:
        """Every container of the project by service, running or not; one-off jobs left out."""
        return read_containers(self.client, self.settings.project)

    def container(self, service: str) -> Container | None:
        """The container of one service. Others are not asked about: one that is being stopped answers late."""
        return read_containers(self.client, self.settings.project, service).get(service)

    @property
    def expected(self) -> tuple[str, ...]:
        """The services that make the topology; a database or Redis outside of the cluster is not one of them."""
        return (*self.settings.own, "bootstrap", *self.settings.node_names, BALANCER, "scheduler")

    def standing(self) -> Standing:
        """Tell how much of the topology is there and runs. A database's volume alone is a stopped cluster: it has data.

        Raises MachineCannotError where only a part is there: neither to be checked nor to be started over.
        """
        found = self.containers()
        if found:
            self._refuse_half(found)
        return self._standing_of(found)

    def standing_or_half(self) -> Standing:
        """As `standing`, without asking whether all of it is there."""
        return self._standing_of(self.containers())

    def _standing_of(self, found: Mapping[str, Container]) -> Standing:
        if not found:
            return Standing.STOPPED if volumes_of(self.client, self.settings.project) else Standing.ABSENT
        lasting = [container.running for service, container in found.items() if service != "bootstrap"]
        if all(lasting):
            return Standing.RUNNING
        return Standing.LIMPING if any(lasting) else Standing.STOPPED

    def _refuse_half(self, found: Mapping[str, Container]) -> None:
        missing = [service for service in self.expected if service not in found]
        extra = sorted(name for name in found if name.startswith("server-") and name not in self.expected)
        if missing or extra:
            what = f"missing: {', '.join(missing)}" if missing else f"not asked for: {', '.join(extra)}"
            raise MachineCannotError(
                f"Half of a {self.settings.db.value} cluster is there."
                if missing
                else "More nodes are there than asked.",
                seen=f"{', '.join(sorted(found))}; {what}",
                why="a run was cut short, containers were removed by hand, or --nodes is another number now.",
                then=f"`invoke down --db={self.settings.db.value}`, then repeat the command.",
            )

    def routes(self, found: Mapping[str, Container] | None = None) -> dict[str, str]:
        """The base URL of the balancer and of each node that publishes a port now (ports change on restart)."""
        found = self.containers() if found is None else found
        urls = {name: found[name].url for name in (BALANCER, *self.settings.node_names) if name in found}
        return {name: url for name, url in urls.items() if url}

    def environment_of(self, container: Container) -> dict[str, str]:
        """The environment that a container was made with. It holds secrets: never print its values."""
        pairs = self.client.containers.get(container.id).attrs["Config"]["Env"]
        return dict(pair.split("=", 1) for pair in pairs)

    def image_for(self, service: str) -> Image:
        """The image that a service would be started from now."""
        return self.images[image_name(service, self.settings.db)]

    def up(self, progress: Progress) -> None:
        """Bring the topology up in the contract's order and wait until every route is ready.

        Raises ClusterBrokenError with the last log lines of the container that failed, MachineCannotError
        where Compose itself could not.
        """
        balancer_was_there = BALANCER in self.containers()
        with progress.step(f"up ({self.settings.db.value}, {self.settings.nodes} nodes)") as step:
            milestones = Milestones(self.settings.project, step)
            outcome = self.compose.run(
                "up", "--detach", "--no-build", "--pull", "never", deadline=UP_DEADLINE, say=milestones.line
            )
            if outcome.status:
                raise self._up_failed(outcome)
            if balancer_was_there:
                self.reload_balancer()
        progress.split(milestones.phases(self.settings.node_names))
        self.await_ready(progress)

    def start_alone(self, services: Sequence[str], *more: str, compose: Compose | None = None) -> None:
        """Start services and nothing that they depend on: Compose would run the bootstrap job again beside the nodes.

        `more` are further options of `up`; `compose` is another invocation of the same project. Raises
        ClusterBrokenError where Compose can't.
        """
        options = ("--detach", "--no-deps", "--no-build", "--pull", "never", *more)
        outcome = (compose or self.compose).run("up", *options, *services, deadline=UP_DEADLINE)
        if outcome.status:
            raise ClusterBrokenError(
                f"Compose could not start {', '.join(services)}.", seen=self.redacted(outcome.tail)
            )

    def await_bootstrap(
        self, say: Callable[[str], None], deadline: float = UP_DEADLINE, died: Died | None = None
    ) -> int:
        """Wait until the bootstrap job has ended, and give its exit status, which is the caller's to judge.

        `died` as in `stop_all`, where somebody listens. Raises ClusterBrokenError where it has not ended within
        `deadline` seconds.
        """
        job, asked, status = self.container("bootstrap"), 0.0, list[int]()

        def running() -> str | None:
            nonlocal asked
            told = died(job.id) if died and job else None
            if told is None and (died is None or time.monotonic() - asked > _ASKED_AFTER):
                asked, found = time.monotonic(), self.container("bootstrap")
                told = found.exit_code if found and found.status == "exited" else None
            status.extend([] if told is None else [told])
            return None if status else "the bootstrap job"

        waiting.until_none("the bootstrap job ended", running, deadline=deadline, say=say)
        return status[0]

    def unready(self, names: Iterable[str], known: Mapping[str, str] | None = None) -> str | None:
        """Which of these routes don't answer /api/ready with 200, in a word; None where all do.

        Their addresses are asked for anew, unless they are known.
        """
        routes = known or self.routes()
        return ", ".join(name for name in names if further_node.answers_ready(routes.get(name)) != 200) or None

    def await_ready(self, progress: Progress) -> None:
        """Wait until balancer and nodes answer /api/ready with 200. Raises ClusterBrokenError where they don't."""
        with progress.step("ready") as step:
            self._await_ready(step)

    def _await_ready(self, step: Step) -> None:
        import requests

        def ready() -> str | None:
            routes = self.routes()
            missing = [name for name in (BALANCER, *self.settings.node_names) if name not in routes]
            if missing:
                raise self._dead(self.containers(), missing[0])
            for name, url in routes.items():
                try:
                    answer = requests.get(f"{url}/api/ready", timeout=3)
                except requests.RequestException as problem:
                    return f"{name}: {type(problem).__name__}"
                if answer.status_code != 200:
                    return self.redacted(f"{name}: {answer.status_code} {answer.text[:200]}")
            return None

        waiting.until_none("every route is ready", ready, deadline=READY_DEADLINE, say=step.say)
        step.done(", ".join(f"{name} {url}" for name, url in self.routes().items()))

    def _up_failed(self, outcome: Outcome) -> ClusterBrokenError | MachineCannotError:
        found = self.containers()
        for service in self.expected:
            container = found.get(service)
            if container and (container.failed or container.health == "unhealthy"):
                return self._dead(found, service)
        return MachineCannotError(
            "Compose could not bring the cluster up.",
            seen=self.redacted(outcome.tail),
            why="an image, port, network or volume that the engine would not give.",
            then="look with `invoke doctor`, then `invoke down` and repeat the command.",
        )

    def _dead(self, found: Mapping[str, Container], service: str) -> ClusterBrokenError:
        container = found.get(service)
        state = container.described if container else "not there"
        seen = [self.log_of(container, tail=12).strip() or "(it logged nothing)"] if container else []
        if container and container.health_said:
            seen.append(f"its health check says: {container.health_said}")
        return ClusterBrokenError(
            f"{service} did not come up: {state}.",
            seen=self.redacted("\n".join(seen)),
            why="its last words tell.",
            then=f"look with `invoke logs --db={self.settings.db.value} --service={service}`.",
        )

    def reload_balancer(self) -> None:
        """Make nginx read its configuration and look the nodes' addresses up again (recreated nodes swap them)."""
        container = self.container(BALANCER)
        if container is None:
            raise MachineCannotError("There is no balancer.", then="look with `invoke status`.")
        self.client.containers.get(container.id).kill(signal="HUP")

    def bootstrap(self, progress: Progress) -> str:
        """Run the one-shot job again and return what it printed; raises ClusterBrokenError where it fails."""
        found = self.container("database")
        if "database" not in self.settings.outside and (not found or not found.running):
            raise MachineCannotError(
                "There is no running database to bootstrap.",
                seen=found.described if found else "no container of this cluster",
                then=f"start the cluster with `invoke up --db={self.settings.db.value}`.",
            )
        with progress.step("bootstrap") as step:
            outcome = self.compose.run(
                "run", "--rm", "--no-deps", "--no-TTY", "bootstrap", deadline=UP_DEADLINE, say=step.say
            )
        if outcome.status:
            raise ClusterBrokenError(
                f"The bootstrap job ended with exit status {outcome.status}.",
                seen=self.redacted(outcome.tail),
                why="its last lines tell.",
                then=f"look with `invoke logs --db={self.settings.db.value} --service=database`.",
            )
        return self.redacted(outcome.output)

    def down(self, progress: Progress) -> bool:
        """Stop and remove everything of this project, volumes included; tells whether there was anything.

        Raises MachineCannotError that names what is left where the engine would not remove it.
        """
        return take_down(self.client, self.settings.project, progress)

    def log_of(self, container: Container, tail: int | Literal["all"] = "all") -> str:
        """What a container printed, stdout and stderr in order, with timestamps."""
        handle = self.client.containers.get(container.id)
        raw: bytes = handle.logs(stdout=True, stderr=True, timestamps=True, tail=tail)
        return raw.decode(errors="replace")

    def query(self, sql: str, name: str = "") -> list[str]:
        """Run SQL with the database's own client in its container; a line per row, tabs between columns.

        In the application's database, or in the named one of the same server. For what no API can do, on this
        checkout's own cluster only. Raises MachineCannotError where the client
        can't be run, ClusterBrokenError where the database refuses.
        """
        return self._in_database(database.client_command(self.settings.db, sql, name))

    def _in_database(self, command: Sequence[str]) -> list[str]:
        container = self.container("database")
        if container is None or not container.running:
            raise MachineCannotError("No database of this cluster's own runs.", then="look with `invoke status`.")
        status, output = self.client.containers.get(container.id).exec_run(list(command))
        text = cast("bytes", output).decode(errors="replace")  # the stubs know streams, which were not asked for
        if status:
            raise ClusterBrokenError("The database refused a statement.", seen=self.redacted(text.strip()))
        return [line for line in text.splitlines() if line]

    @contextmanager
    def another_database(self, name: str) -> Iterator[str]:
        """One more, empty database in the same server, dropped afterwards; gives its name. Raises as `query` does.

        What a run that was killed has left under that name is dropped before.
        """
        settings = self.settings
        self._in_database(database.dropping_command(settings.db, name))
        with interrupts.deferred():
            self._in_database(database.making_command(settings.db, name, settings.value("DB_USERNAME")))
        try:
            yield name
        finally:
            with interrupts.shielded():
                self._in_database(database.dropping_command(settings.db, name))

    def further_node(self, environment: Mapping[str, str], purpose: str) -> AbstractContextManager[FurtherNode]:
        """Start one more node like the last one, with this on top of its environment; it is removed afterwards."""
        model = self.containers()[self.settings.node_names[-1]]
        return further_node.started(self.client, model, environment, purpose)

    def start_made(self, made: Sequence[Container]) -> None:
        """Start containers that are there, at once, as they were made."""
        with ThreadPoolExecutor(max_workers=max(len(made), 1)) as pool:
            with interrupts.deferred():  # threads are born here
                starts = [pool.submit(self.client.api.start, one.id) for one in made]
            for start in starts:
                start.result()

    def stop_all(self, services: Sequence[str], seconds: int, died: Died) -> None:
        """Stop services at once, each with so many seconds to end by itself; over when their programs have ended.

        Where the engine is asked instead of `died`, it answers only when the container's ports and networks are taken
        down, too: nobody has to wait for that, so it is asked late.
        """
        found = self.containers()
        handles = [self.client.containers.get(found[name].id) for name in services if name in found]
        running = [handle for handle in handles if handle.status == "running"]
        for handle in running:
            handle.kill(signal=handle.attrs["Config"].get("StopSignal") or "SIGTERM")
        began = time.monotonic()
        while running := [handle for handle in running if died(handle.id or "") is None]:
            waited = time.monotonic() - began
            if waited > _ASKED_AFTER:
                running = [handle for handle in running if _runs(handle)]
            if waited > seconds:
                for handle in running:
                    handle.kill()
            time.sleep(waiting.POLL_SECONDS)

    @contextmanager
    def stopped(self, node: str) -> Iterator[None]:
        """Have one node stopped meanwhile, as an operator stops a container; it serves again afterwards."""
        handle = self.client.containers.get(self.containers()[node].id)
        try:
            handle.stop(timeout=STOP_SECONDS)
            yield
        finally:
            with interrupts.shielded():
                handle.start()
                self.reload_balancer()  # the node may have another address now

    def redacted(self, text: str) -> str:
        """The text with every secret of this cluster hidden."""
        return redact(text, self.settings.secret_values)


def _runs(handle: Handle) -> bool:
    handle.reload()
    return bool(handle.status == "running")
