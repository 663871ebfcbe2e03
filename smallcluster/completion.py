"""The shell's completion of verbs and flags: Invoke has the scripts, and keeps them well hidden."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import PurePath

from smallcluster.errors import AskedWronglyError

SHELLS = ("bash", "zsh", "fish")
"""The shells that Invoke has a script for."""
PROGRAMS = ["invoke", "inv"]


def chosen_shell(asked: str, login_shell: str) -> str:
    """The shell that was asked for, else the one that $SHELL names. Raises AskedWronglyError for another one."""
    shell = asked or PurePath(login_shell).name
    if shell in SHELLS:
        return shell
    choices = " or ".join(f"--shell={name}" for name in SHELLS)
    raise AskedWronglyError(
        f"There is no completion for the shell {shell!r}." if shell else "No shell was named.",
        seen="" if asked else f"SHELL={login_shell}" if login_shell else "SHELL is not set.",
        then=f"repeat the command with {choices}.",
    )


def script(shell: str) -> str:
    """Invoke's own completion script for one of SHELLS, for both names of the program where the shell can."""
    from invoke.completion.complete import print_completion_script

    with redirect_stdout(io.StringIO()) as printed:
        print_completion_script(shell=shell, names=PROGRAMS)
    return printed.getvalue()
