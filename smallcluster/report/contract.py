"""The contract as a matrix: rules, the checks that prove them, the defects that break them; and docs/contract.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from smallcluster import checks, defects, static
from smallcluster.contract import PROTOCOL, RULES, Rule

CONTRACT_SCHEMA = "smallcluster.contract/1"

_HEAD = """# The contract

Made by `invoke contract --markdown` from the rules (smallcluster/contract.py), the checks that name them, and the
defects (smallcluster/defects/catalogue/) that break them. A rule is one promise of the note that defines the small
cluster; those of "{protocol}" are the server's alone and decide a verdict only with `--strict`. What a check looks at:
[the checks](operating.md#the-checks). A defect is planted by `invoke defects`, and must turn the checks red that it
names.

{rules} rules, {checks} checks, {defects} defects."""


@dataclass(frozen=True)
class Row:
    """A rule, the ids of the checks that prove it, and of the defects that break it."""

    rule: Rule
    checks: tuple[str, ...]
    defects: tuple[str, ...]


def matrix() -> list[Row]:
    """Every rule with its checks and defects, in the contract's order."""
    every = [(check.id, check.rules) for check in static.ALL] + [(check.id, check.rules) for check in checks.ALL]
    planted = defects.load_all()
    return [
        Row(
            rule,
            tuple(name for name, rules in every if rule.id in rules),
            tuple(defect.id for defect in planted if rule.id in defect.breaks),
        )
        for rule in RULES
    ]


def contract_as_data() -> dict[str, Any]:
    """The matrix as data. Keys are stable; add, never rename."""
    rules = [
        {"rule": row.rule.id, "sentence": row.rule.sentence, "where": row.rule.where, "note": row.rule.is_the_notes,
         "checks": row.checks, "defects": row.defects}
        for row in matrix()
    ]  # fmt: skip
    return {"schema": CONTRACT_SCHEMA, "rules": rules}


def markdown() -> str:
    """The page docs/contract.md."""
    rows, planted = matrix(), defects.load_all()
    numbers = {"rules": len(rows), "checks": len(checks.ALL) + len(static.ALL), "defects": len(planted)}
    parts = [_HEAD.format(protocol=PROTOCOL, **numbers)]
    for where in dict.fromkeys(row.rule.where for row in rows):
        parts += [f"\n## {where[0].upper()}{where[1:]}\n", "| rule | says | checks | defects |", _LINE]
        for row in rows:
            if row.rule.where == where:
                cells = (f"`{row.rule.id}`", row.rule.sentence, _listed(row.checks), _listed(row.defects))
                parts.append(f"| {' | '.join(cells)} |")
    parts += ["\n## The defects\n", "| defect | says | turns red |", "| --- | --- | --- |"]
    parts += (f"| `{one.id}` | {one.says} | {_listed(one.caught_by) or 'nothing'} |" for one in planted)
    return "\n".join(parts) + "\n"


_LINE = "| --- | --- | --- | --- |"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def table() -> Iterator[tuple[str, str, str, str]]:
    """Rule, sentence, checks and defects, for a terminal."""
    return ((row.rule.id, row.rule.sentence, ", ".join(row.checks), ", ".join(row.defects)) for row in matrix())
