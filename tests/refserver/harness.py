"""What the tests start: containers, a way to them that survives their restart, nodes, and a client."""

from __future__ import annotations

import asyncio
import io
import json
import os
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from dw_refserver import scheduler
from dw_refserver.settings import load
from dw_refserver.store.database import opened
from sqlalchemy import text

from smallcluster.images import resolve_service

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

TOKEN = "a-token-of-the-tests"
OK = {"codec": "avro", "blob": "wwHioz3/VYAiNwoEb2s="}
"""The string "ok" as a payload."""
DAILY = {"intervals": [{"every": "P1D"}]}
LABEL = {"smallcluster.refserver-tests": "1"}
SERVICES: Mapping[str, tuple[int, dict[str, str]]] = {
    "mysql": (3306, {"MYSQL_DATABASE": "durable_workflow", "MYSQL_USER": "workflow", "MYSQL_PASSWORD": "secret",
                     "MYSQL_ROOT_PASSWORD": "root-secret"}),
    "pgsql": (5432, {"POSTGRES_DB": "durable_workflow", "POSTGRES_USER": "workflow", "POSTGRES_PASSWORD": "secret"}),
    "redis": (6379, {}),
}  # fmt: skip


def until(found: Callable[[], Any], seconds: float, what: str) -> Any:
    """Ask until there is something, or fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)
    return value


class Containers:
    """Labelled containers on a network of their own, removed together."""

    def __init__(self, engine: DockerClient, name: str) -> None:
        self.engine, self.name = engine, name
        self.network = engine.networks.create(name, labels=LABEL)
        self.running: list[Container] = []

    def start(self, service: str) -> Container:
        """Start a service; its port on 127.0.0.1 is the engine's choice."""
        port, env = SERVICES[service]
        image = resolve_service(service).ref
        container: Container = self.engine.containers.run(
            image, name=f"{self.name}-{service}-{secrets.token_hex(2)}", detach=True, environment=env, labels=LABEL,
            network=self.name, ports={f"{port}/tcp": ("127.0.0.1", 0)},
        )  # fmt: skip
        self.running.append(container)
        return container

    def pair(self, kind: str) -> dict[str, Container]:
        """Start a database and a Redis; they may not answer yet."""
        return {"database": self.start(kind), "redis": self.start("redis")}

    def drop(self, container: Container) -> None:
        """Remove one container with its volumes."""
        container.remove(force=True, v=True)
        self.running.remove(container)

    def remove(self) -> None:
        """Remove all containers and the network."""
        for container in list(self.running):
            self.drop(container)
        self.network.remove()


def port_of(container: Container, service: str) -> int:
    """The port that the engine has chosen; it is another one after each start."""
    container.reload()
    bindings = container.ports.get(f"{SERVICES[service][0]}/tcp")
    return int(bindings[0]["HostPort"]) if bindings else 0


class Door:
    """A TCP forwarder on a port that stays, to wherever the container is right now."""

    def __init__(self, target: Callable[[], int]) -> None:
        self.target = target
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self.listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self.listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listening.accept()
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with (
            client,
            suppress(OSError),
            socket.create_connection(("127.0.0.1", self.target()), timeout=5) as server,
            selectors.DefaultSelector() as selector,
        ):
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while _copied(selector):
                pass


def _copied(selector: selectors.BaseSelector) -> bool:
    for key, _ in selector.select():
        data = key.fileobj.recv(65536)  # type: ignore[union-attr]
        if not data:
            return False
        key.data.sendall(data)
    return True


@dataclass
class Running:
    """One node as a process."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    url: str

    def stop(self) -> float:
        """SIGTERM; gives the seconds until it was gone."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)
        return time.monotonic() - started


@dataclass
class Cluster:
    """A database, a Redis and the nodes over them."""

    kind: str
    folder: Path
    env: dict[str, str]
    containers: dict[str, Container]
    nodes: dict[str, Running] = field(default_factory=dict)

    @property
    def a(self) -> Client:
        """A client of server-a."""
        return Client(self.nodes["server-a"].url)

    @property
    def b(self) -> Client:
        """A client of server-b."""
        return Client(self.nodes["server-b"].url)

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end."""
        command = [sys.executable, "-m", "dw_refserver.cli", *arguments]
        return subprocess.run(command, env=self.env | env, capture_output=True, text=True, timeout=60, check=False)

    def run_pass(self, name: str, limit: int = 100) -> tuple[int, list[str]]:
        """Run a pass as its verb does, but in this process; the exit code and the lines that it printed."""
        with redirect_stdout(io.StringIO()) as said:
            code = scheduler.run_pass(load(self.env), name, limit)
        return code, said.getvalue().splitlines()

    def spawn(self, name: str, *arguments: str, **env: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Start a verb that stays; its output goes to a file."""
        log = self.folder / f"{name}.log"
        command = [sys.executable, "-m", "dw_refserver.cli", *arguments]
        with log.open("wb") as out:
            process = subprocess.Popen(command, env=self.env | env, stdout=out, stderr=subprocess.STDOUT)
        return process, log

    def serve(self, name: str, **env: str) -> Client:
        """Start a node and wait until it serves."""
        process, log = self.spawn(name, "serve", DW_HTTP_HOST="127.0.0.1", DW_HTTP_PORT="0", DW_SERVER_ID=name, **env)
        serving = until(lambda: _serving(log, process), 10, f"{name} serving")
        self.nodes[name] = Running(name, process, log, f"http://127.0.0.1:{serving['port']}")
        return Client(self.nodes[name].url)

    @contextmanager
    def extra(self, name: str, **env: str) -> Iterator[Client]:
        """One more node, with settings of its own, for as long as the block runs."""
        try:
            yield self.serve(name, **env)
        finally:
            node = self.nodes.pop(name)
            node.process.kill()
            node.process.wait()

    def hearing(self, nodes: int) -> bool:
        """Whether so many nodes listen for wake signals by now."""
        code, said = self.containers["redis"].exec_run(["redis-cli", "pubsub", "numsub", "dw:wake"])
        return code == 0 and int(said.split()[-1]) >= nodes

    def count(self, table: str, where: str) -> int:
        """How many rows of a table there are."""
        return int(self.value(f"select count(*) from {table} where {where}"))

    def value(self, query: str) -> Any:
        """The one value that a query has for an answer."""

        async def ask() -> Any:
            async with opened(load(self.env).database, "test") as db:
                return (await db.run(text(query))).scalar_one()

        return asyncio.run(ask())

    def execute(self, *statements: str) -> str:
        """Run SQL as the database's own client inside its container, for what no API can do."""
        if self.kind == "pgsql":
            client = [
                "psql",
                "--host=127.0.0.1",
                "--username=workflow",
                "--dbname=durable_workflow",
                "-v",
                "ON_ERROR_STOP=1",
            ]
            command, env = [*client, "--command", ";".join(statements)], {"PGPASSWORD": "secret"}
        else:
            client = ["mysql", "--host=127.0.0.1", "--user=workflow", "durable_workflow"]
            command, env = [*client, "--execute", ";".join(statements)], {"MYSQL_PWD": "secret"}
        code, output = self.containers["database"].exec_run(command, environment=env)
        assert code == 0, output
        return str(output, "utf-8")


def _serving(log: Path, process: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    assert process.poll() is None, log.read_text()
    lines = [json.loads(line) for line in log.read_text().splitlines() if '"event":"serving"' in line]
    return lines[0] if lines else None


@contextmanager
def bootstrapped(
    containers: Containers, started: dict[str, Container], kind: str, folder: Path, *, doors: bool = False
) -> Iterator[Cluster]:
    """The schema put in place as soon as the containers answer; everything stopped and removed afterwards."""
    targets: dict[str, Callable[[], int]] = {
        "database": lambda: port_of(started["database"], kind),
        "redis": lambda: port_of(started["redis"], "redis"),
    }
    opened = {name: Door(target) for name, target in targets.items()} if doors else {}
    ports = {name: opened[name].port if doors else target() for name, target in targets.items()}
    cluster = Cluster(kind, folder, _env(kind, ports), started)
    try:
        done = cluster.run("bootstrap", DW_BOOTSTRAP_RETRIES="200", DW_BOOTSTRAP_DELAY_SECONDS="0.1")
        assert done.returncode == 0, done.stdout + done.stderr
        yield cluster
    finally:
        for node in cluster.nodes.values():
            node.process.kill()
            node.process.wait()
        for door in opened.values():
            door.close()
        for container in started.values():
            containers.drop(container)


def _env(kind: str, ports: Mapping[str, int]) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"], "DB_CONNECTION": kind, "DB_HOST": "127.0.0.1", "DB_PORT": str(ports["database"]),
        "DB_DATABASE": "durable_workflow", "DB_USERNAME": "workflow", "DB_PASSWORD": "secret",
        "CACHE_STORE": "redis", "QUEUE_CONNECTION": "redis", "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(ports["redis"]), "DW_AUTH_TOKEN": TOKEN, "DW_V2_MULTI_NODE": "true",
        "DW_WORKER_POLL_TIMEOUT": "1", "DW_QUERY_TASK_TIMEOUT": "4", "DW_WORKER_STALE_AFTER_SECONDS": "60",
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip


@dataclass
class Reply:
    """Status and JSON body of one exchange."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]


class Client:
    """Plain requests to one node."""

    def __init__(self, url: str, **headers: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.headers.update({
            "Authorization": f"Bearer {TOKEN}",
            "X-Durable-Workflow-Control-Plane-Version": "2",
            "X-Durable-Workflow-Protocol-Version": "1.20",
            **headers,
        })  # fmt: skip

    def inside(self, namespace: str) -> Client:
        """A client of the same node that asks in a namespace."""
        return Client(self.url, **{"X-Namespace": namespace})

    def get(self, path: str, timeout: float = 10, **parameters: Any) -> Reply:
        """GET a path below /api, with the parameters that aren't None."""
        response = self.session.get(f"{self.url}/api{path}", params=parameters, timeout=timeout)
        return Reply(response.status_code, response.json(), response.headers)

    def post(self, path: str, /, method: str = "POST", **body: Any) -> Reply:
        """POST a JSON body to a path below /api."""
        response = self.session.request(method, f"{self.url}/api{path}", json=body, timeout=30)
        return Reply(response.status_code, response.json(), response.headers)

    def put(self, path: str, /, **body: Any) -> Reply:
        """PUT a JSON body to a path below /api."""
        return self.post(path, method="PUT", **body)

    def delete(self, path: str) -> Reply:
        """DELETE a path below /api."""
        response = self.session.delete(f"{self.url}/api{path}", timeout=30)
        return Reply(response.status_code, response.json(), response.headers)

    def register(self, worker: str, queue: str, **more: Any) -> Reply:
        """Register a worker."""
        return self.post("/worker/register", worker_id=worker, task_queue=queue, runtime="python", **more)

    def start(self, queue: str, **more: Any) -> Reply:
        """Start a workflow of type `t`."""
        return self.post("/workflows", **{"workflow_type": "t", "task_queue": queue, **more})

    def poll(self, worker: str, queue: str, **more: Any) -> Reply:
        """Poll for a workflow task."""
        return self.post("/worker/workflow-tasks/poll", worker_id=worker, task_queue=queue, **more)

    def complete(self, task: Mapping[str, Any], **more: Any) -> Reply:
        """Complete a task's workflow with the result "ok"."""
        ok = {"type": "complete_workflow", "result": OK}
        claim = {"lease_owner": task["lease_owner"], "workflow_task_attempt": task["workflow_task_attempt"]}
        return self.post(f"/worker/workflow-tasks/{task['task_id']}/complete", **{**claim, "commands": [ok], **more})

    def schedule(self, worker: str, queue: str, **more: Any) -> Reply:
        """Start a workflow (its id is the queue's name) and complete its first task with an activity of type `a`."""
        self.register(worker, queue)
        self.start(queue, workflow_id=queue)
        return self.complete(self.poll(worker, queue).body["task"], commands=[activity(**more)])

    def create_schedule(self, name: str, **more: Any) -> Reply:
        """Create a daily schedule that starts workflows of type `t`, with the input "ok", on queue `name`."""
        action = {"workflow_type": "t", "task_queue": name, "input": OK}
        return self.post("/schedules", **{"schedule_id": name, "spec": DAILY, "action": action, **more})

    def poll_activity(self, worker: str, queue: str, **more: Any) -> Reply:
        """Poll for an activity task."""
        return self.post("/worker/activity-tasks/poll", worker_id=worker, task_queue=queue, **more)

    def query(self, workflow_id: str, name: str = "state", **more: Any) -> Reply:
        """Ask a workflow's current run, and wait for the answer."""
        return self.post(f"/workflows/{workflow_id}/query/{name}", **more)

    def poll_query(self, worker: str, queue: str, **more: Any) -> Reply:
        """Poll for a query task."""
        return self.post("/worker/query-tasks/poll", worker_id=worker, task_queue=queue, **more)

    def end_query(self, verb: str, task: Mapping[str, Any], **more: Any) -> Reply:
        """Call complete or fail for the query that `task` is."""
        claim = {"lease_owner": task["lease_owner"], "query_task_attempt": task["query_task_attempt"]}
        return self.post(f"/worker/query-tasks/{task['query_task_id']}/{verb}", **{**claim, **more})

    def pending_queries(self, queue: str) -> int:
        """How many queries wait on a queue for a worker."""
        reply = self.get(f"/task-queues/{queue}").body
        return int(reply["admission"]["query_tasks"]["approximate_pending_count"])

    def end_activity(self, verb: str, task: Mapping[str, Any], **more: Any) -> Reply:
        """Call heartbeat, complete or fail for the attempt that `task` is."""
        claim = {"activity_attempt_id": task["activity_attempt_id"], "lease_owner": task["lease_owner"]}
        return self.post(f"/worker/activity-tasks/{task['task_id']}/{verb}", **{**claim, **more})


def activity(**more: Any) -> dict[str, Any]:
    """The command that schedules an activity of type `a`."""
    return {"type": "schedule_activity", "activity_type": "a", "arguments": None, **more}
