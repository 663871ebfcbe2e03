"""Every defect of the catalogue can be planted in the server as it is now, and proves what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from smallcluster import checks, defects, render, static
from smallcluster.defects.base import Defect, by_container, load
from smallcluster.defects.plant import SERVER
from smallcluster.edits import Edit
from smallcluster.errors import AskedWronglyError
from smallcluster.settings import load as settings_of

ALL = defects.load_all()
RULES_OF = {check.id: check.rules for check in (*static.ALL, *checks.ALL)}


def each(defect: Defect) -> str:
    return defect.id


def test_there_are_many() -> None:
    assert len(ALL) >= 40


@pytest.mark.parametrize("defect", ALL, ids=each)
def test_what_it_replaces_stands_there_once_and_what_comes_of_it_is_python(defect: Defect) -> None:
    for module in {patch.module for patch in defect.patches}:
        text = (SERVER / module).read_text()
        for patch in defect.patches:
            text = patch.applied(text) if patch.module == module else text
        compile(text, module, "exec")
        assert text != (SERVER / module).read_text()


@pytest.mark.parametrize("defect", [one for one in ALL if one.nginx], ids=each)
def test_its_line_of_nginx_stands_there_once(defect: Defect, tmp_path: Path) -> None:
    conf = render.nginx_conf(settings_of("mysql", exported={}, state=tmp_path))
    for edit in defect.nginx:
        conf = edit.applied(conf)


@pytest.mark.parametrize("defect", ALL, ids=each)
def test_its_rules_are_those_of_the_checks_that_catch_it(defect: Defect) -> None:
    assert set(defect.caught_by) <= RULES_OF.keys()
    assert set(defect.breaks) <= {rule for check in defect.caught_by for rule in RULES_OF[check]}
    assert defect.says.endswith(".")


def test_every_check_has_a_defect_that_turns_it_red() -> None:
    assert RULES_OF.keys() - {check for defect in ALL for check in defect.caught_by} == set()


def test_one_defect_changes_nothing() -> None:
    assert [defect.id for defect in ALL if defect.harmless] == ["nothing"]


def test_what_stands_elsewhere_or_twice_is_refused() -> None:
    assert Edit("b", "x").applied("abc") == "axc"
    for text in ("ac", "abcb"):
        with pytest.raises(ValueError, match="not once"):
            Edit("b", "x").applied(text)


def test_a_slip_in_a_file_is_told_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text('says = "x."\nbreaks = ["no.rule"]\ncaught_by = []\npatches = 1\n')
    with pytest.raises(ValueError, match=r"odd\.toml: patches, no\.rule"):
        load(path)


def test_a_name_that_no_defect_has_is_refused() -> None:
    with pytest.raises(AskedWronglyError, match="--only=leese is not a defect"):
        defects.chosen(["leese"])
    assert [defect.id for defect in defects.chosen(["nothing"])] == ["nothing"]
    assert defects.chosen([]) == ALL


@pytest.mark.parametrize("defect", [one for one in ALL if one.env], ids=each)
def test_its_variables_are_others_than_the_rendered_ones(defect: Defect, tmp_path: Path) -> None:
    settings = settings_of("mysql", exported={}, state=tmp_path)
    given = by_container(defect.env, settings)
    rendered = render.env_files(settings)
    assert [(name, key) for name, values in given.items() for key, value in values.items()
            if rendered[name].get(key) == value] == []  # fmt: skip
