"""A smoke as JUnit XML: what CI systems show. A broken rule is a failure; what could not be judged is an error.

Names are stable, because CI systems follow a case through its runs by them: `smoke.pgsql.2-nodes` is the class, a
check's title the name. The check's id and its rules are properties.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as Xml

from smallcluster import files
from smallcluster.contract import BY_ID
from smallcluster.errors import PersonError
from smallcluster.images import Image
from smallcluster.redaction import redact
from smallcluster.smoke import SmokeReport
from smallcluster.verdicts import Finding, Verdict

_ELEMENTS = {Verdict.BROKEN: "failure", Verdict.UNKNOWN: "error"}


def write(report: SmokeReport, path: Path) -> None:
    """Write the report to a file, secrets hidden. Raises MachineCannotError where it can't be written."""
    write_suite(_suite(report), path, report.evidence.secrets)


def write_suite(suite: Xml.Element, path: Path, secrets: tuple[str, ...]) -> None:
    """Write a suite to a file, secrets hidden. Raises MachineCannotError where it can't be written."""
    for element in suite.iter():  # before XML escapes what is in a secret
        element.text = _shown(element.text or "", secrets) or None
        for name, value in element.items():
            element.set(name, _shown(value, secrets))
    Xml.indent(suite)
    files.write_public(path.absolute(), Xml.tostring(suite, encoding="unicode", xml_declaration=True) + "\n")


def _suite(report: SmokeReport) -> Xml.Element:
    settings = report.cluster.settings
    suite = Xml.Element("testsuite", name=f"smoke {settings.db.value}, {settings.nodes} nodes")
    tell_images(suite, report.cluster.images)
    for finding in report.findings:
        suite.append(_case(report, finding))
    if report.problem is not None:
        suite.append(stop(_class(report), report.problem))
    deciding = [one for one in report.findings if not one.warning]
    counts = {verdict: sum(one.verdict is verdict for one in deciding) for verdict in Verdict}
    suite.set("tests", str(len(suite) - 1))
    suite.set("failures", str(counts[Verdict.BROKEN]))
    suite.set("errors", str(counts[Verdict.UNKNOWN] + (report.problem is not None)))
    suite.set("time", f"{report.seconds:.3f}")
    return suite


def tell_images(suite: Xml.Element, images: Mapping[str, Image]) -> None:
    """Which images were under test, as properties of the suite."""
    properties = Xml.SubElement(suite, "properties")
    for name, image in images.items():
        value = f"{image.version}, {image.ref} ({image.origin}, {image.digest})"
        Xml.SubElement(properties, "property", name=f"image {name}", value=value)


def _case(report: SmokeReport, finding: Finding) -> Xml.Element:
    case = Xml.Element("testcase", classname=_class(report), name=finding.title, time=f"{finding.seconds:.3f}")
    properties = Xml.SubElement(case, "properties")
    for name, value in (("check", finding.check), *(("rule", rule) for rule in finding.rules)):
        Xml.SubElement(properties, "property", name=name, value=value)
    evidence = finding.judgement.evidence
    if finding.warning:
        told = [f"warning: {finding.verdict.value}", *(f"{word}: {text}" for word, text in report.advice(finding))]
        Xml.SubElement(case, "system-out").text = "\n".join([*told, *evidence])
        return case
    if finding.verdict not in _ELEMENTS:
        Xml.SubElement(case, "system-out").text = "\n".join(evidence)
        return case
    advice = [f"{word}: {text}" for word, text in report.advice(finding)]
    kind, message = finding.verdict.value, "; ".join(advice)
    outcome = Xml.SubElement(case, _ELEMENTS[finding.verdict], type=kind, message=message)
    rules = [f"rule {rule}: {BY_ID[rule].sentence}" for rule in finding.rules]
    outcome.text = "\n".join([*evidence, *rules, *advice])
    return case


def stop(classname: str, problem: PersonError) -> Xml.Element:
    """The run itself, where it stopped before it could judge."""
    case = Xml.Element("testcase", classname=classname, name="the run itself", time="0")
    Xml.SubElement(case, "error", type="stopped", message=problem.what).text = str(problem)
    return case


def _class(report: SmokeReport) -> str:
    settings = report.cluster.settings
    return f"smoke.{settings.db.value}.{settings.nodes}-nodes"


def _shown(text: str, secrets: tuple[str, ...]) -> str:
    """A text without secrets, and without the control characters that XML doesn't know and a log line may hold."""
    printable = "".join(character for character in text if character in "\t\n\r" or ord(character) >= 32)
    return redact(printable, secrets)
