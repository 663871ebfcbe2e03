"""The documents keep up with what they describe: verbs, flags, variables, checks, exit codes, files, links."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from invoke import Collection
from invoke.loader import FilesystemLoader

from smallcluster import checks, envfile
from smallcluster.errors import ExitCode
from smallcluster.paths import CHECKOUT

DOCS = CHECKOUT / "docs"
OPERATING = (DOCS / "operating.md").read_text()
PAGES = [CHECKOUT / "README.md", *sorted(DOCS.rglob("*.md"))]
VERBS = Collection.from_module(FilesystemLoader(start=str(CHECKOUT)).load()[0]).tasks
LINK = re.compile(r"\]\(([^)#]*)(#[^)]*)?\)")


def section(title: str) -> str:
    """The text below a heading of operating.md, up to the next heading of its level or above."""
    before, _, after = OPERATING.partition(f"# {title}\n")
    level = len(before) - len(before.rstrip("#")) + 1
    return re.split(rf"^#{{1,{level}}} ", after, maxsplit=1, flags=re.MULTILINE)[0]


def verb_section(verb: str) -> str:
    """A verb's section; bootstrap and migrate share one."""
    return section("invoke bootstrap, invoke migrate" if verb in ("bootstrap", "migrate") else f"invoke {verb}")


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_is_described_with_all_its_flags(verb: str) -> None:
    text = verb_section(verb)
    assert text
    flags = [argument.name for argument in VERBS[verb].get_arguments()]
    assert [name for name in flags if f"--{name.strip('_').replace('_', '-')}" not in text] == []


def test_every_exit_code_is_described() -> None:
    rows = re.findall(r"^\| (\d+) \|", section("Exit codes"), re.MULTILINE)
    assert sorted(map(int, rows)) == sorted([1, *(int(code) for code in ExitCode)])


def test_every_variable_of_the_layers_has_its_line() -> None:
    table = section("The environment and its rules")
    names = {
        name
        for layer in ("cluster", "mysql", "pgsql", "published")
        for name in envfile.read(CHECKOUT / "env" / f"{layer}.env", layer)
    }
    assert sorted(name for name in names if f"`{name}`" not in table) == []


def test_every_check_has_its_line() -> None:
    table = section("The checks")
    assert [check.id for check in checks.ALL if f"`{check.id}`" not in table] == []
    named = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", table))
    assert named <= {check.id for check in checks.ALL}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        assert not anchor or anchor.removeprefix("#") in anchors_of(file), anchor


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("picture", sorted((DOCS / "images").glob("*.svg")), ids=lambda picture: picture.name)
def test_a_picture_can_be_read_in_the_dark_and_aloud_and_needs_nothing_from_elsewhere(picture: Path) -> None:
    root = ElementTree.parse(picture).getroot()
    names = [child.tag.rpartition("}")[2] for child in root]
    assert {"title", "desc", "style"} <= set(names)
    assert root.get("role") == "img"
    text = picture.read_text()
    assert "prefers-color-scheme: dark" in text
    assert "href" not in text
    assert "@import" not in text
