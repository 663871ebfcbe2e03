"""apt sources of real machines, and what setup derives from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from smallcluster.errors import MachineCannotError
from smallcluster.setup import apt
from smallcluster.setup.apt import Source

DEB822 = """\
Types: deb
# http://snapshot.example/archive/20250520T000000Z
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Types: deb-src
URIs: http://mirror.example/sources-only
Suites: bookworm
Components: main

Enabled: no
Types: deb
URIs: http://mirror.example/disabled
Suites: bookworm
Components: main
"""
INLINE_KEY = """\
Types: deb
URIs: https://inline.example/debian/
Suites: bookworm
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY865UxYJKwYBBAHaRw8BAQdAd7Z0srwuhlB6JKFkcf4HU4SSS/xcRfwEQWzr
 -----END PGP PUBLIC KEY BLOCK-----
"""
ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb cdrom:[Debian GNU/Linux 12]/ bookworm main
deb http://one.example/debian bookworm main contrib # the nearest
deb-src http://one.example/debian bookworm main
deb [arch=amd64 signed-by=/etc/apt/keyrings/x.gpg] https://other.example/apt stable main
"""


def machine(folder: Path, **files: str) -> Path:
    (folder / "sources.list.d").mkdir()
    for name, text in files.items():
        place = folder / "sources.list" if name == "list" else folder / "sources.list.d" / name.replace("_", ".")
        place.write_text(text)
    return folder


def test_deb822_with_comments_and_disabled_paragraphs() -> None:
    first, second = apt.parse_deb822(DEB822)
    assert first == Source(
        ("http://mirror.example/debian",),
        ("bookworm", "bookworm-updates"),
        ("main",),
        "/usr/share/keyrings/debian-archive-keyring.gpg",
    )
    assert second.suites == ("bookworm-security",)


def test_one_line_with_and_without_options() -> None:
    _, nearest, other = apt.parse_one_line(ONE_LINE)
    assert nearest == Source(("http://one.example/debian",), ("bookworm",), ("main", "contrib"))
    assert other.signed_by == "/etc/apt/keyrings/x.gpg"
    assert other.uris == ("https://other.example/apt",)


def test_disc_and_foreign_archives_are_passed_over() -> None:
    found = apt.main_source(apt.parse_one_line(ONE_LINE), ("bookworm", "oldstable"))
    assert found.uris == ("http://one.example/debian",)


def test_sources_that_setup_added_are_not_read_again(tmp_path: Path) -> None:
    folder = machine(tmp_path, list=ONE_LINE, debian_sources=DEB822)
    (folder / "sources.list.d" / "smallcluster-trixie.sources").write_text(DEB822)
    (folder / "sources.list.d" / "old.list.disabled").write_text(ONE_LINE)
    assert len(apt.read_sources(folder)) == 3 + 2


def test_the_newer_suite_comes_from_the_same_place_by_the_same_keys() -> None:
    text = apt.newer_suite_source(apt.parse_deb822(DEB822)[0], "trixie", "a reason")
    (derived,) = apt.parse_deb822(text)
    assert derived == Source(
        ("http://mirror.example/debian",),
        ("trixie",),
        ("main",),
        "/usr/share/keyrings/debian-archive-keyring.gpg",
    )


def test_an_inline_key_is_carried_over() -> None:
    (source,) = apt.parse_deb822(INLINE_KEY)
    (derived,) = apt.parse_deb822(apt.newer_suite_source(source, "trixie", "a reason"))
    assert derived.signed_by == source.signed_by
    assert "-----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDME" in derived.signed_by


def test_no_key_named_is_no_key_written() -> None:
    source = Source(("http://one.example/debian",), ("bookworm",), ("main",))
    assert "Signed-By" not in apt.newer_suite_source(source, "trixie", "a reason")


def test_preferences_let_two_packages_in_and_nothing_else() -> None:
    specific, general = apt.preferences("trixie", ("docker-compose", "docker-buildx")).split("\n\n")
    assert "Package: docker-compose docker-buildx\nPin: release n=trixie\nPin-Priority: 990" in specific
    assert general == "Package: *\nPin: release n=trixie\nPin-Priority: -10\n"


def test_the_mirror_is_the_machines_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(apt.MIRROR_VARIABLE, raising=False)
    sources = apt.parse_deb822(DEB822)
    assert apt.debian_mirror(sources, "debian", ("bookworm",)) == "http://mirror.example/debian"
    monkeypatch.setenv(apt.MIRROR_VARIABLE, "http://named.example/debian")
    assert apt.debian_mirror(sources, "debian", ("bookworm",)) == "http://named.example/debian"


def test_a_mirror_list_file_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(apt.MIRROR_VARIABLE, raising=False)
    (tmp_path / "debian.list").write_text("# ours\nhttps://listed.example/debian\n")
    source = Source((f"mirror+file:{tmp_path}/debian.list",), ("bookworm",), ("main",))
    assert apt.debian_mirror([source], "debian", ("bookworm",)) == "https://listed.example/debian"


def test_another_distribution_must_name_a_debian_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(apt.MIRROR_VARIABLE, raising=False)
    with pytest.raises(MachineCannotError, match=apt.MIRROR_VARIABLE):
        apt.debian_mirror(apt.parse_deb822(DEB822), "ubuntu", ("noble",))


def test_no_main_archive_is_said() -> None:
    with pytest.raises(MachineCannotError, match="no main archive of bookworm or oldstable"):
        apt.main_source([], ("bookworm", "oldstable"))
