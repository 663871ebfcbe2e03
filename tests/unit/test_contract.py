"""The contract's rules, the page made from them, and the verb that prints both."""

from __future__ import annotations

import json

import pytest
from invoke import Exit

from smallcluster import verbs_on_files
from smallcluster.contract import RULES
from smallcluster.paths import CHECKOUT
from smallcluster.report import contract


def test_ids_are_unique_and_sentences_are_sentences() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert [rule.id for rule in RULES if not rule.sentence.endswith(".") or "." not in rule.id] == []


def test_the_page_is_what_the_verb_prints() -> None:
    page = (CHECKOUT / "docs" / "contract.md").read_text()
    assert page == contract.markdown(), "invoke contract --markdown > docs/contract.md"


def test_every_part_of_the_note_has_its_rules() -> None:
    """The nine lines for operators and the eight shapes that are not supported, one to one."""
    kinds = [rule.id.partition(".")[0] for rule in RULES]
    assert (kinds.count("operator"), kinds.count("outside")) == (10, 8)  # one line is two: version, and packages


def test_every_rule_has_a_check_and_a_defect() -> None:
    assert [row.rule.id for row in contract.matrix() if not row.checks or not row.defects] == []


def test_json_is_the_whole_matrix(capsys: pytest.CaptureFixture[str]) -> None:
    verbs_on_files.contract(json=True, markdown=False, debug=False)
    data = json.loads(capsys.readouterr().out)
    assert data["schema"] == "smallcluster.contract/1"
    assert [one["rule"] for one in data["rules"]] == [rule.id for rule in RULES]


def test_two_ways_to_print_are_refused() -> None:
    with pytest.raises(Exit) as ended:
        verbs_on_files.contract(json=True, markdown=True, debug=False)
    assert ended.value.code == 12
