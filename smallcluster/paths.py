"""Where things are: the checkout and its untracked state folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
"""The repository's root; the harness runs from a checkout because its YAML and env files are its interface."""

STATE = CHECKOUT / ".smallcluster"
"""Everything the harness writes: rendered files, secrets (0600), evidence. Never committed."""


def checkout_id() -> str:
    """Six hex digits that tell two checkouts on one machine apart; stable, so leftovers can be found again."""
    return hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:6]
