"""What a person reads on stdout. Colours only on a terminal, and not where NO_COLOR says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smallcluster.contract import BY_ID
from smallcluster.flavours import Flavour
from smallcluster.verdicts import Finding, Verdict

if TYPE_CHECKING:
    from rich.console import Console

    from smallcluster.containers import Container
    from smallcluster.images import Image
    from smallcluster.progress import Phase
    from smallcluster.smoke import SmokeReport
    from smallcluster.visits import Ended

_MARKS = {
    Verdict.HOLDS: ("✓", "green"),
    Verdict.BROKEN: ("✗", "red"),
    Verdict.UNKNOWN: ("?", "yellow"),
}
_WARNING = ("!", "yellow")
"""What is against the protocol alone, and decides nothing."""
WIDTH_WITHOUT_TERMINAL = 110


def console() -> Console:
    """A console on stdout that never wraps words into nonsense where there is no terminal."""
    from rich.console import Console

    class Plain(Console):
        """Leaves a reader that has gone to the verb's edge; rich itself would exit with 1, which is Invoke's."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    made = Plain(highlight=False, emoji=False)
    return made if made.is_terminal else Plain(highlight=False, emoji=False, width=WIDTH_WITHOUT_TERMINAL)


def print_smoke(report: SmokeReport) -> None:
    """Findings, the phase table, where the evidence is, and the verdict as the last line."""
    out = console()
    for finding in report.findings:
        print_finding(out, finding, report.advice(finding))
    if report.unjudged:
        out.print(
            f"\nRules that nothing here could judge: {', '.join(report.unjudged)}", style="yellow", soft_wrap=True
        )
    print_ending(out, report)
    _, colour = _MARKS[report.verdict]
    out.print(_verdict_line(report), style=f"bold {colour}", markup=False, soft_wrap=True)


def print_ending(out: Console, report: Ended) -> None:
    """What stopped the visit, where the time went, where the evidence is, what runs on."""
    if report.problem is not None:
        out.print(f"\n{report.problem}", style="yellow", markup=False, soft_wrap=True)
    out.print()
    _print_phases(out, report.phases, report.seconds)
    print_left(out, report)


def print_left(out: Console, report: Ended) -> None:
    """Where the evidence is, and what runs on."""
    out.print(f"Evidence: {report.evidence.folder}", markup=False, soft_wrap=True)
    for problem in report.evidence.incomplete:
        out.print(f"Evidence is incomplete: {problem}", style="yellow", markup=False, soft_wrap=True)
    if report.left_running:
        left = addresses(report.cluster.routes()) or "no route; `invoke status` shows what is there"
        out.print(f"Left running: {left}", markup=False, soft_wrap=True)


def _verdict_line(report: SmokeReport) -> str:
    from smallcluster.target import Target  # heavy: files alone are judged without it

    counts = dict.fromkeys(Verdict, 0)
    warnings = 0
    for finding in report.findings:
        if finding.warning and finding.verdict is not Verdict.HOLDS:
            warnings += 1
        else:
            counts[finding.verdict] += 1
    told = {verdict.value: count for verdict, count in counts.items()} | {"warnings": warnings}
    tally = ", ".join(f"{count} {word}" for word, count in told.items() if count)
    settings = report.cluster.settings
    whose = "a target over " if isinstance(report.cluster, Target) else ""
    shape = f"{whose}{settings.db.value}, {settings.nodes} nodes"
    mark, _ = _MARKS[report.verdict]
    return (
        f"{mark} Verdict: {report.verdict.value.upper()} ({shape}; {tally or 'nothing judged'}; "
        f"{report.seconds:.1f} s; exit {int(report.exit_code)})"
    )


def verdict_mark(verdict: Verdict) -> tuple[str, str]:
    """A verdict's mark and colour."""
    return _MARKS[verdict]


def print_finding(out: Console, finding: Finding, advice: Iterable[tuple[str, str]]) -> None:
    """One check: what it looked at and saw; where it doesn't hold, the rules and the advice."""
    mark, colour = _WARNING if finding.warning and finding.verdict is not Verdict.HOLDS else _MARKS[finding.verdict]
    out.print(f"[{colour}]{mark}[/] {finding.title} [dim]({finding.check})[/]", soft_wrap=True)
    for line in finding.judgement.evidence:
        out.print(f"    {line}", style="dim", markup=False, soft_wrap=True)
    if finding.verdict is Verdict.HOLDS:
        return
    for rule in finding.rules:
        out.print(f"    rule {rule}: {BY_ID[rule].sentence}", markup=False, soft_wrap=True)
    for word, text in advice:
        out.print(f"    {word}: {text}", style=colour, markup=False, soft_wrap=True)
    if finding.warning:
        out.print("    a warning: the protocol's rule alone, which decides nothing without --strict", style=colour)


def _print_phases(out: Console, phases: Sequence[Phase], total: float) -> None:
    from rich.table import Table

    table = Table("Phase", box=None, pad_edge=False)
    table.add_column("Seconds", justify="right")
    for phase in phases:
        table.add_row(phase.name, f"{phase.seconds:.1f}")
        for part in phase.parts:
            table.add_row(f"  {part.name}", f"{part.seconds:.1f}", style="dim")
    rest = total - sum(phase.seconds for phase in phases)
    table.add_row("between them", f"{max(rest, 0.0):.1f}")
    table.add_row("total", f"{total:.1f}")
    out.print(table)


def images_lines(images: Mapping[str, Image]) -> Iterable[str]:
    """Which images are under test: name, where from, which digest, what the program inside says it is."""
    for name, image in images.items():
        yield f"image {name}: {image.version}, {image.ref} ({image.origin}, {_short(image.digest)})"
    if images["server"].flavour is Flavour.REFERENCE:
        yield "server under test: the bundled reference server, not the published image"


def _short(digest: str) -> str:
    """Enough of a digest to recognise it; report.json has all of it."""
    head, _, rest = digest.rpartition("sha256:")
    return f"{head}sha256:{rest[:16]}"


def print_status(containers: Mapping[str, Container], project: str, left: Sequence[str]) -> None:
    """The containers as a table, and what was left behind in sentences."""
    if containers:
        _print_containers(containers)
    else:
        console().print(f"No container of {project} is there.", markup=False)
    for sentence in left:
        console().print(sentence, markup=False, soft_wrap=True)


def _print_containers(containers: Mapping[str, Container]) -> None:
    from rich.table import Table

    table = Table("Service", "State", "Restarts", "Published", "Started", box=None, pad_edge=False)
    for service, container in sorted(containers.items()):
        published = ", ".join(container.published)
        started = "never" if container.status == "created" else container.started_at[:19] + "Z"
        table.add_row(service, container.described, str(container.restarts), published, started)
    console().print(table)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A plain table on stdout; a cell that is too long goes on below, so that every name can be copied."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console().print(table)


def addresses(routes: Mapping[str, str]) -> str:
    """Every address in one line."""
    return ", ".join(f"{name} {url}" for name, url in routes.items())
