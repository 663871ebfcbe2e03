"""A rehearsal as JUnit XML: a case for each step of its plan. A step that was not verified is a failure.

One that was not come to is skipped, one that was cut off an error. Names are stable, as those of the smoke are.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as Xml

from smallcluster.errors import ExitCode
from smallcluster.rehearsal.plan import Planned
from smallcluster.rehearsal.result import RehearsalReport
from smallcluster.report import junit


def write(report: RehearsalReport, path: Path) -> None:
    """Write the report to a file, secrets hidden. Raises MachineCannotError where it can't be written."""
    junit.write_suite(_suite(report), path, report.evidence.secrets)


def _suite(report: RehearsalReport) -> Xml.Element:
    plan = report.plan
    name = f"rehearse {plan.database}, {plan.nodes} nodes, {plan.from_version} to {plan.to_version}"
    classname = f"rehearse.{plan.database}.{plan.nodes}-nodes"
    suite = Xml.Element("testsuite", name=name)
    junit.tell_images(suite, report.cluster.images)
    planned = dict.fromkeys([*plan.steps, *(one.step for one in report.attempts)])
    cases = [_case(report, step, classname) for step in planned]
    if report.problem is not None and not any(one.problem for one in report.attempts):
        cases.append(junit.stop(classname, report.problem))
    suite.extend(cases)
    suite.set("tests", str(len(cases)))
    for word, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(word, str(sum(case.find(kind) is not None for case in cases)))
    suite.set("time", f"{report.seconds:.3f}")
    return suite


def _case(report: RehearsalReport, step: Planned, classname: str) -> Xml.Element:
    done = report.last(step.id)
    seconds = sum(one.seconds for one in report.attempts if one.step == step)
    case = Xml.Element("testcase", classname=classname, name=step.title, time=f"{seconds:.3f}")
    Xml.SubElement(Xml.SubElement(case, "properties"), "property", name="step", value=step.id)
    if done is None:
        Xml.SubElement(case, "skipped", message="it was not come to")
    elif done.problem is not None:
        broken = done.problem.code is ExitCode.BROKEN
        outcome = Xml.SubElement(case, "failure" if broken else "error", message=done.problem.what)
        outcome.text = str(done.problem)
    elif not done.verified:
        Xml.SubElement(case, "error", type="cut off", message=done.told[0])
    else:
        Xml.SubElement(case, "system-out").text = "\n".join(done.seen)
    return case
