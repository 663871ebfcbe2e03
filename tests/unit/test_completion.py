"""Completion: the shell's script is printed, an unknown shell gets a sentence, and bash takes what is printed."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from invoke.exceptions import Exit

from smallcluster import verbs
from smallcluster.completion import SHELLS, chosen_shell, script
from smallcluster.errors import AskedWronglyError


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script_that_asks_invoke(shell: str) -> None:
    printed = script(shell)
    assert re.search(r"\binvoke\b.* --complete -- ", printed)


@pytest.mark.parametrize(
    ("asked", "login", "chosen"),
    [("", "/usr/bin/zsh", "zsh"), ("", "bash", "bash"), ("fish", "/bin/bash", "fish"), ("bash", "", "bash")],
)
def test_the_shell_is_the_one_asked_for_else_the_login_shell(asked: str, login: str, chosen: str) -> None:
    assert chosen_shell(asked, login) == chosen


@pytest.mark.parametrize(
    ("asked", "login", "words"),
    [("tcsh", "/bin/bash", "'tcsh'"), ("", "/bin/tcsh", "SHELL=/bin/tcsh"), ("", "", "SHELL is not set")],
)
def test_an_unknown_shell_gets_a_sentence(asked: str, login: str, words: str) -> None:
    with pytest.raises(AskedWronglyError) as caught:
        chosen_shell(asked, login)
    assert words in str(caught.value)
    assert "--shell=bash or --shell=zsh or --shell=fish" in caught.value.then


def test_the_verb_prints_it_or_leaves_with_12(capsys: pytest.CaptureFixture[str]) -> None:
    verbs.completion(shell="bash", debug=False)
    assert capsys.readouterr().out.strip() == script("bash").strip()
    with pytest.raises(Exit) as caught:
        verbs.completion(shell="csh", debug=False)
    assert caught.value.code == 12


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_takes_it() -> None:
    told = subprocess.run(
        ["bash"], input=script("bash") + "\ncomplete -p inv\n", capture_output=True, text=True, check=True
    )
    assert "-F _complete_invoke inv" in told.stdout
