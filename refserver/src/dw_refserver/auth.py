"""Who is calling: tokens and signatures to roles. Roles are exact: an admin may not poll."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping

from dw_refserver.engine import Refused
from dw_refserver.settings import ADMIN, OPERATOR, WORKER, Auth

EVERYTHING = "everything"
"""The standing of a caller that every route lets in."""


def check(auth: Auth, headers: Mapping[str, str], body: bytes, allowed: Collection[str]) -> str:
    """Let the caller pass and give its role, or refuse with 401 (not known) or 403 (not this role)."""
    role = _role_of(auth, headers, body)
    if role is None:
        raise Refused(401, "unauthorized", "Invalid or missing authentication token.")
    if role != EVERYTHING and role not in allowed:
        text = "Authenticated role is not allowed to access this endpoint."
        raise Refused(403, "forbidden", text, role=role, allowed_roles=list(allowed))
    return role


def _role_of(auth: Auth, headers: Mapping[str, str], body: bytes) -> str | None:
    if auth.driver == "none":
        return EVERYTHING
    if not auth.usable:
        raise Refused(500, "server_error", "Server authentication is not configured.")
    matches = _signed if auth.driver == "signature" else _bearer
    for role in (WORKER, OPERATOR, ADMIN):
        if auth.secrets[role] and matches(auth.secrets[role], headers, body):
            return role
    if auth.backward_compatible and auth.secrets[""] and matches(auth.secrets[""], headers, body):
        return EVERYTHING if auth.shared_opens_everything else ADMIN
    return None


def _bearer(token: str, headers: Mapping[str, str], _body: bytes) -> bool:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


def _signed(key: str, headers: Mapping[str, str], body: bytes) -> bool:
    expected = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(headers.get("x-signature", "").encode(), expected.encode())
