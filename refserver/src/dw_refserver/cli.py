"""`dw-refserver VERB`. What a verb needs is imported when it runs, so that each starts quickly."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from dw_refserver import __version__
from dw_refserver.settings import Settings, SettingsError, load

_PASSES = ("schedule:evaluate", "activity:timeout-enforce", "history:prune")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Exit 0 done, 1 failed, 2 asked or configured wrongly."""
    given = _parser().parse_args(arguments)
    if given.verb == "version":
        print(f"dw-refserver {__version__}")  # noqa: T201
        return 0
    try:
        settings = load()
    except SettingsError as error:
        _complain(str(error))
        return 2
    return _run(given, settings)


def bootstrap() -> int:
    """The `server-bootstrap` command of the published image."""
    return main(["bootstrap", *sys.argv[1:]])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dw-refserver", description="A reference server for Durable Workflow v2.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    serve = verbs.add_parser("serve", help="run an API node")
    serve.add_argument("--host", help="address to listen on (DW_HTTP_HOST, 0.0.0.0)")
    serve.add_argument("--port", type=int, help="port to listen on (DW_HTTP_PORT, 8080)")
    bootstrap = verbs.add_parser("bootstrap", help="migrate the database and create the default namespace")
    bootstrap.add_argument("--force", action="store_true", help="accepted for compatibility; it never asks")
    for name in ("scheduler", *_PASSES):
        one = verbs.add_parser(name, help="loop over the three passes" if name == "scheduler" else "run this pass once")
        one.add_argument("--limit", type=int, default=100, help="items per pass at most")
    verbs.add_parser("version", help="print the version")
    return parser


def _run(given: argparse.Namespace, settings: Settings) -> int:
    if given.verb == "serve":
        from dw_refserver.serve import serve

        changes = {"http_host": given.host, "http_port": given.port}
        return serve(dataclasses.replace(settings, **{k: v for k, v in changes.items() if v is not None}))
    for warning in settings.warnings:  # a node has said them in its log
        _complain(warning)
    if given.verb == "bootstrap":
        from dw_refserver import bootstrap

        return bootstrap.run(settings)
    from dw_refserver import scheduler

    if given.verb == "scheduler":
        return scheduler.run_loop(settings, given.limit)
    return scheduler.run_pass(settings, given.verb, given.limit)


def _complain(sentence: str) -> None:
    print(f"dw-refserver: {sentence}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
