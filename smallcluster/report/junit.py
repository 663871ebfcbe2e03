"""A smoke as JUnit XML: what CI systems show. A broken rule is a failure; what could not be judged is an error."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as Xml

from smallcluster import files
from smallcluster.redaction import redact
from smallcluster.smoke import SmokeReport
from smallcluster.verdicts import Finding, Verdict

_ELEMENTS = {Verdict.BROKEN: "failure", Verdict.UNKNOWN: "error"}


def write(report: SmokeReport, path: Path) -> None:
    """Write the report to a file, secrets hidden. Raises MachineCannotError where it can't be written."""
    suite = _suite(report)
    for element in suite.iter():  # before XML escapes what is in a secret
        element.text = _shown(element.text or "", report) or None
        for name, value in element.items():
            element.set(name, _shown(value, report))
    Xml.indent(suite)
    files.write_public(path.absolute(), Xml.tostring(suite, encoding="unicode", xml_declaration=True) + "\n")


def _suite(report: SmokeReport) -> Xml.Element:
    settings = report.cluster.settings
    suite = Xml.Element("testsuite", name=f"smoke {settings.db.value}, {settings.nodes} nodes")
    properties = Xml.SubElement(suite, "properties")
    for name, image in report.cluster.images.items():
        value = f"{image.version}, {image.ref} ({image.origin}, {image.digest})"
        Xml.SubElement(properties, "property", name=f"image {name}", value=value)
    for finding in report.findings:
        suite.append(_case(report, finding))
    if report.problem is not None:
        suite.append(_stop(report))
    counts = {verdict: sum(one.verdict is verdict for one in report.findings) for verdict in Verdict}
    suite.set("tests", str(len(suite) - 1))
    suite.set("failures", str(counts[Verdict.BROKEN]))
    suite.set("errors", str(counts[Verdict.UNKNOWN] + (report.problem is not None)))
    suite.set("time", f"{report.seconds:.3f}")
    return suite


def _case(report: SmokeReport, finding: Finding) -> Xml.Element:
    name, took = f"{finding.check}: {finding.title}", f"{finding.seconds:.3f}"
    case = Xml.Element("testcase", classname=_class(report), name=name, time=took)
    judgement = finding.judgement
    if finding.verdict in _ELEMENTS:
        said = (("expected", judgement.expected), ("likely", judgement.cause), ("next", report.next_step(finding)))
        outcome = Xml.SubElement(case, _ELEMENTS[finding.verdict], message=judgement.cause or judgement.expected)
        outcome.text = "\n".join([*judgement.evidence, *(f"{name}: {text}" for name, text in said if text)])
    else:
        Xml.SubElement(case, "system-out").text = "\n".join(judgement.evidence)
    return case


def _stop(report: SmokeReport) -> Xml.Element:
    """The run itself, where it stopped before it could judge."""
    case = Xml.Element("testcase", classname=_class(report), name="the run itself", time="0")
    outcome = Xml.SubElement(case, "error", message=report.problem.what if report.problem else "")
    outcome.text = str(report.problem)
    return case


def _class(report: SmokeReport) -> str:
    return f"smoke.{report.cluster.settings.db.value}"


def _shown(text: str, report: SmokeReport) -> str:
    """A text without secrets, and without the control characters that XML doesn't know and a log line may hold."""
    printable = "".join(character for character in text if character in "\t\n\r" or ord(character) >= 32)
    return redact(printable, report.evidence.secrets)
