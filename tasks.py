"""Brings up, proves and tears down a small Durable Workflow Server cluster on Docker Compose.

Exit codes: 0 all rules hold, 10 a rule is broken, 11 unknown, 12 asked wrongly, 13 the machine can't, 14 the harness
broke (1 is Invoke's own: a mistyped verb or flag).
"""

from __future__ import annotations

from invoke import Context, task

from smallcluster import verbs, verbs_on_files, verbs_on_upgrades

_DB = "which durable database: mysql or pgsql"
_NODES = "how many API nodes: 2 or 3 (default: as many as run, else 2)"
_IMAGE = "the server's image, such as durableworkflow/server:TAG (default: the bundled reference server)"
_JSON = "print JSON alone on stdout; progress stays on stderr"
_DEBUG = "show the traceback of an unexpected error"


@task(help={"json": _JSON, "debug": _DEBUG})
def setup(_: Context, json: bool = False, debug: bool = False) -> None:
    """Make this machine able: Docker engine, Compose, images of both databases. Does nothing where all is there."""
    verbs.setup(json=json, debug=debug)


@task(help={"json": _JSON, "debug": _DEBUG})
def doctor(_: Context, json: bool = False, debug: bool = False) -> None:
    """Look at what setup would look at, and touch nothing."""
    verbs.doctor(json=json, debug=debug)


@task(help={"json": _JSON, "markdown": "print the page docs/contract.md", "debug": _DEBUG})
def contract(_: Context, json: bool = False, markdown: bool = False, debug: bool = False) -> None:
    """Print the contract: every rule, the checks that prove it, the defects that break it."""
    verbs_on_files.contract(json=json, markdown=markdown, debug=debug)


@task(
    iterable=["env"],
    help={
        "db": f"{_DB}: its rendered env files",
        "nodes": _NODES,
        "env": "a container's env file instead, as NAME=FILE, such as server-a=a.env; repeated",
        "nginx": "the balancer's configuration instead: its main file, includes are followed",
        "compose": "a Compose file instead, read by Compose; without --env, its services' environments, too",
        "json": _JSON,
        "debug": _DEBUG,
    },
)
def check(
    _: Context,
    env: list[str],
    db: str = "",
    nodes: str = "",
    nginx: str = "",
    compose: str = "",
    json: bool = False,
    debug: bool = False,
) -> None:
    """Hold files against the contract, before anything runs: the rendered ones, or those of a cluster of yours."""
    verbs_on_files.check(db=db, nodes=nodes, env=env, nginx=nginx, compose=compose, json=json, debug=debug)


@task(help={"db": _DB, "nodes": _NODES, "explain": "tell which layer each line comes from", "debug": _DEBUG})
def render(_: Context, db: str = "", nodes: str = "", explain: bool = False, debug: bool = False) -> None:
    """Write one env file per container and the balancer's configuration, from env/ and nginx/."""
    verbs.render(db=db, nodes=nodes, explain=explain, debug=debug)


@task(help={"db": _DB, "nodes": _NODES, "image": _IMAGE, "json": _JSON, "debug": _DEBUG})
def up(_: Context, db: str = "", nodes: str = "", image: str = "", json: bool = False, debug: bool = False) -> None:
    """Bring the cluster up in the contract's order, wait until it is ready, print its addresses."""
    verbs.up(db=db, nodes=nodes, image=image, json=json, debug=debug)


@task(help={"db": _DB, "debug": _DEBUG})
def bootstrap(_: Context, db: str = "", debug: bool = False) -> None:
    """Run the one-shot bootstrap job again: migrations and default namespace. Idempotent."""
    verbs.bootstrap(db=db, debug=debug)


@task(help={"db": _DB, "debug": _DEBUG})
def migrate(_: Context, db: str = "", debug: bool = False) -> None:
    """Run the migrations: the same one-shot job as bootstrap."""
    verbs.bootstrap(db=db, debug=debug)


@task(
    help={
        "db": _DB,
        "nodes": _NODES,
        "image": _IMAGE,
        "keep": "leave the cluster running afterwards",
        "target": "a file about a cluster that someone else runs: that one is checked, over HTTP",
        "nodes_unreachable": "ask the target's balancer alone",
        "read_only": "write nothing at the target",
        "strict": "count what only the protocol demands, too (the bundled server is always judged so)",
        "json": _JSON,
        "junit": "also write JUnit XML to this file",
        "debug": _DEBUG,
    }
)
def smoke(
    _: Context,
    db: str = "",
    nodes: str = "",
    image: str = "",
    keep: bool = False,
    target: str = "",
    nodes_unreachable: bool = False,
    read_only: bool = False,
    strict: bool = False,
    json: bool = False,
    junit: str = "",
    debug: bool = False,
) -> None:
    """Prove the cluster. Nothing running: up, all checks, verdict, down. Running: checks only, and it stays."""
    verbs.smoke(
        db=db, nodes=nodes, image=image, keep=keep, target=target, nodes_unreachable=nodes_unreachable,
        read_only=read_only, strict=strict, json=json, junit=junit, debug=debug,
    )  # fmt: skip


@task(
    help={
        "db": _DB,
        "runs": "runs of the cycles; for each, 20 wakes in each direction (default 5)",
        "seconds": "how long each run of the cycles is (default 3)",
        "polls": "idle polls that one node holds (default 5000)",
        "hold": "seconds that the idle polls are held (default 30)",
        "json": _JSON,
        "debug": _DEBUG,
    }
)
def bench(
    _: Context,
    db: str = "",
    runs: str = "5",
    seconds: str = "3",
    polls: str = "5000",
    hold: str = "30",
    json: bool = False,
    debug: bool = False,
) -> None:
    """Measure cycles a second, wake latency and idle polls. Nothing running: up, measure, down. Running: measure."""
    verbs.bench(db=db, runs=runs, seconds=seconds, polls=polls, hold=hold, json=json, debug=debug)


@task(
    iterable=["only"],
    help={"db": _DB, "only": "this defect alone; repeated", "json": _JSON, "debug": _DEBUG},
)
def defects(_: Context, only: list[str], db: str = "", json: bool = False, debug: bool = False) -> None:
    """Plant each known defect in a cluster, one at a time, and show which check catches it."""
    verbs.defects(db=db, only=only, json=json, debug=debug)


@task(
    help={
        "db": _DB,
        "from": "the image to upgrade from (default: the one that runs, else the bundled server's previous release)",
        "to": "the image to upgrade to (default: the bundled server as it stands here)",
        "nodes": _NODES,
        "plan": "print the plan and do nothing",
        "backups": "the folder that the backup goes to (default: the cluster's in .smallcluster/)",
        "bootstrap_seconds": "how long the bootstrap job may take before it counts as hung (default: 180)",
        "rollback": "rehearse the way back, too: the backup restored, the old image on it",
        "on_failure": "what follows a step that fails: stop (the default) or rollback",
        "resume": "go on with a rehearsal that was cut off, or whose step failed",
        "abandon": "put the old release back instead, its data as it was before the new one",
        "yes": "do not ask before it is run",
        "force": "also to an image that is not newer",
        "json": _JSON,
        "debug": _DEBUG,
    }
)
def rehearse(
    _: Context,
    db: str = "",
    from_: str = "",
    to: str = "",
    nodes: str = "",
    backups: str = "",
    bootstrap_seconds: str = "",
    plan: bool = False,
    rollback: bool = False,
    on_failure: str = "stop",
    resume: bool = False,
    abandon: bool = False,
    yes: bool = False,
    force: bool = False,
    json: bool = False,
    debug: bool = False,
) -> None:
    """Rehearse a stop-the-world upgrade: with work in flight, each step verified, downtime measured."""
    wanted = verbs_on_upgrades.Asked(
        db=db, from_=from_, to=to, nodes=nodes, rollback=rollback, on_failure=on_failure, backups=backups,
        bootstrap_seconds=bootstrap_seconds, force=force, plan=plan, resume=resume, abandon=abandon, yes=yes, json=json,
    )  # fmt: skip
    verbs_on_upgrades.rehearse(wanted, debug=debug)


@task(help={"db": f"{_DB} (default: both)", "json": _JSON, "debug": _DEBUG})
def status(_: Context, db: str = "", json: bool = False, debug: bool = False) -> None:
    """Show what runs: states, health, restarts, addresses; and what was left behind."""
    verbs.status(db=db, json=json, debug=debug)


@task(
    iterable=["service"],
    help={
        "db": f"{_DB} (default: the one that is there)",
        "service": "only this service; may be repeated",
        "follow": "go on printing until Ctrl-C",
        "debug": _DEBUG,
    },
)
def logs(_: Context, service: list[str], db: str = "", follow: bool = False, debug: bool = False) -> None:
    """Print what the containers printed, secrets hidden."""
    verbs.logs(db=db, services=service, follow=follow, debug=debug)


@task(help={"db": f"{_DB} (default: both)", "debug": _DEBUG})
def down(_: Context, db: str = "", debug: bool = False) -> None:
    """Stop and remove the cluster: containers, networks and the database's volume."""
    verbs.down(db=db, debug=debug)


@task(help={"shell": "bash, zsh or fish (default: as $SHELL says)", "debug": _DEBUG})
def completion(_: Context, shell: str = "", debug: bool = False) -> None:
    """Print the script that completes verbs and flags: `source <(invoke completion)`."""
    verbs.completion(shell=shell, debug=debug)
