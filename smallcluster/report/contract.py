"""The contract as a matrix: each rule, where it stands, the checks that prove it. docs/contract.md is made from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from smallcluster import checks, static
from smallcluster.contract import PROTOCOL, RULES, Rule

CONTRACT_SCHEMA = "smallcluster.contract/1"
UNCHECKED = "no check yet"
"""What stands where a rule has no check: nobody may take it for proven."""

_HEAD = """# The contract

Made by `invoke contract --markdown` from the rules (smallcluster/contract.py) and the checks that name them.
A rule is one promise of the note that defines the small cluster; those of "{protocol}" are the server's alone and
decide a verdict only with `--strict`. What a check looks at: [the checks](operating.md#the-checks).

{checked} of {rules} rules have a check. A smoke says nothing about the others."""


def checks_of(rule: Rule) -> tuple[str, ...]:
    """The ids of the checks that prove a rule, in the order in which they are read."""
    of_files = [check.id for check in static.ALL if rule.id in check.rules]
    return (*of_files, *(check.id for check in checks.ALL if rule.id in check.rules))


def matrix() -> Iterator[tuple[Rule, tuple[str, ...]]]:
    """Every rule with its checks, in the contract's order."""
    return ((rule, checks_of(rule)) for rule in RULES)


def contract_as_data() -> dict[str, Any]:
    """The matrix as data. Keys are stable; add, never rename."""
    rules = [
        {"rule": rule.id, "sentence": rule.sentence, "where": rule.where, "note": rule.is_the_notes, "checks": found}
        for rule, found in matrix()
    ]
    return {"schema": CONTRACT_SCHEMA, "rules": rules}


def markdown() -> str:
    """The page docs/contract.md."""
    rows = list(matrix())
    head = _HEAD.format(protocol=PROTOCOL, checked=sum(bool(found) for _, found in rows), rules=len(rows))
    parts = [head]
    for where in dict.fromkeys(rule.where for rule, _ in rows):
        parts += [f"\n## {where[0].upper()}{where[1:]}\n", "| rule | says | checks |", "| --- | --- | --- |"]
        for rule, found in rows:
            if rule.where == where:
                told = ", ".join(f"`{check}`" for check in found) or UNCHECKED
                parts.append(f"| `{rule.id}` | {rule.sentence} | {told} |")
    return "\n".join(parts) + "\n"


def table() -> Iterator[tuple[str, str, str]]:
    """Rule, sentence and checks, for a terminal."""
    return ((rule.id, rule.sentence, ", ".join(found) or UNCHECKED) for rule, found in matrix())
