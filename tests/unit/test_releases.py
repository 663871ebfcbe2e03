"""The bundled server's other releases can be made of the server as it stands here."""

from __future__ import annotations

from pathlib import Path

import pytest

from smallcluster import releases
from smallcluster.recipes import PREVIOUS, RELEASES, UNFIT, kind_of, recipe

PACKAGE = releases.PACKAGE


@pytest.mark.parametrize("name", RELEASES)
def test_it_differs_by_what_its_file_says_and_is_python(name: str) -> None:
    changed = releases.load(name).changed()
    for file, text in changed.items():
        compile(text, file, "exec")
        assert not (PACKAGE / file).exists() or text != (PACKAGE / file).read_text()


def test_each_has_a_version_and_a_schema_of_its_own() -> None:
    here = (PACKAGE / "__init__.py").read_text(), (PACKAGE / "store" / "namespaces.py").read_text()
    heads = {"0005": here[1]}
    for name, head in ((PREVIOUS, "0004"), (UNFIT, "0006")):
        release = releases.load(name)
        changed = release.changed()
        assert f'"{release.version}"' in changed["__init__.py"]
        heads[head] = changed["store/namespaces.py"]
    assert all(f'HEAD = "{head}"' in text for head, text in heads.items())


def test_nothing_of_what_is_new_is_left_in_the_one_before() -> None:
    release = releases.load(PREVIOUS)
    changed = release.changed()
    left = [path for path in PACKAGE.rglob("*.py") if str(path.relative_to(PACKAGE)) not in release.absent]
    texts = {path: changed.get(str(path.relative_to(PACKAGE)), path.read_text()) for path in left}
    assert [path.name for path, text in texts.items() if '"retention_mode"' in text] == []


def test_the_context_of_its_image(tmp_path: Path) -> None:
    releases.lay_out(PREVIOUS, tmp_path)
    assert (tmp_path / "absent").read_text() == "migrations/versions/v0005_retention_mode.py\n"
    assert (tmp_path / "version").read_text() == "0.1.0"
    assert (tmp_path / "changed" / "store" / "namespaces.py").is_file()


def test_it_is_a_server_made_from_the_servers_sources_and_its_own() -> None:
    assert {kind_of(name) for name in RELEASES} == {"server"}
    assert len({recipe(name) for name in (*RELEASES, "server")}) == 3


def test_a_slip_in_a_file_is_told_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "FILES", tmp_path)
    (tmp_path / "previous.toml").write_text('says = "x."\nversion = "1"\nedits = []\n')
    with pytest.raises(ValueError, match=r"previous\.toml: edits"):
        releases.load(PREVIOUS)
