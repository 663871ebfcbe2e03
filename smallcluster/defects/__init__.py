"""Planted faults, each of which must turn the checks red that it names: the proof that the smoke can fail.

A defect is a file in catalogue/. It changes what the rendered files or compose/ say, or a module of the bundled server
in the containers that it is planted in; the server itself holds none of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from smallcluster.defects.base import Defect, load_all
from smallcluster.errors import AskedWronglyError

__all__ = ["Defect", "chosen", "load_all"]


def chosen(names: Sequence[str]) -> tuple[Defect, ...]:
    """The defects of these names, or all. Raises AskedWronglyError for a name that none has."""
    every = load_all()
    unknown = set(names) - {defect.id for defect in every}
    if unknown:
        raise AskedWronglyError(
            f"--only={sorted(unknown)[0]} is not a defect.",
            why="a slip in the name.",
            then=f"choose one of: {', '.join(defect.id for defect in every)}.",
        )
    return tuple(defect for defect in every if not names or defect.id in names)
