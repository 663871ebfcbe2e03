"""`dw-refserver VERB`. What a verb needs is imported when it runs, so that each starts quickly."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dw_refserver import __version__
from dw_refserver.settings import Settings, SettingsError, load

_VERBS = {
    "serve": "run an API node",
    "bootstrap": "migrate the database and create the default namespace",
    "scheduler": "loop over the three passes",
    "schedule:evaluate": "run this pass once",
    "activity:timeout-enforce": "run this pass once",
    "history:prune": "run this pass once",
    "floor": "serve the bare statements of a start, a claim and a completion, to measure a node against",
    "version": "print the version",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Exit 0 done, 1 failed, 2 asked or configured wrongly."""
    given = _parser().parse_args(arguments)
    if given.verb == "version":
        print(f"dw-refserver {__version__}")  # noqa: T201
        return 0
    try:
        return _run(given, load())
    except SettingsError as error:
        print(f"dw-refserver: {error}", file=sys.stderr)  # noqa: T201
        return 2


def bootstrap() -> int:
    """The `server-bootstrap` command of the published image."""
    return main(["bootstrap", *sys.argv[1:]])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dw-refserver", description="A reference server for Durable Workflow v2.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, does in _VERBS.items():
        verb = verbs.add_parser(name, help=does)
        if name == "bootstrap":
            verb.add_argument("--force", action="store_true", help="accepted for compatibility; it never asks")
        elif name == "floor":
            verb.add_argument("--port", type=int, required=True, help="the port to listen on")
        elif name not in ("serve", "version"):
            verb.add_argument("--limit", type=int, default=100, help="items per pass at most")
    return parser


def _run(given: argparse.Namespace, settings: Settings) -> int:
    if given.verb == "serve":
        from dw_refserver.serve import serve

        return serve(settings)
    if given.verb == "floor":
        from dw_refserver import floor

        return floor.serve(settings, given.port)
    if given.verb == "bootstrap":
        from dw_refserver import bootstrap

        return bootstrap.run(settings)
    from dw_refserver import scheduler

    if given.verb == "scheduler":
        return scheduler.run_loop(settings, given.limit)
    return scheduler.run_pass(settings, given.verb, given.limit)


if __name__ == "__main__":
    sys.exit(main())
