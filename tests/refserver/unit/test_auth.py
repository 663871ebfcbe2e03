from __future__ import annotations

import hashlib
import hmac

import pytest
from dw_refserver import auth
from dw_refserver.engine import Refused
from dw_refserver.settings import load

WORKER, CONTROL = ("worker",), ("operator", "admin")


def standing(
    environ: dict[str, str], headers: dict[str, str], allowed: tuple[str, ...], body: bytes = b""
) -> int | str:
    """The role that a caller gets, or the status of the refusal."""
    try:
        return auth.check(load(environ).auth, headers, body, allowed)
    except Refused as refused:
        return refused.status


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("environ", "token", "worker_route", "control_route"),
    [
        ({"DW_AUTH_TOKEN": "all"}, "all", auth.EVERYTHING, auth.EVERYTHING),
        ({"DW_AUTH_TOKEN": "all"}, "wrong", 401, 401),
        ({"DW_AUTH_TOKEN": "all"}, "", 401, 401),
        ({"DW_AUTH_TOKEN": "all", "DW_WORKER_TOKEN": "w"}, "all", 403, "admin"),
        ({"DW_AUTH_TOKEN": "all", "DW_WORKER_TOKEN": "w"}, "w", "worker", 403),
        ({"DW_AUTH_TOKEN": "all", "DW_AUTH_BACKWARD_COMPATIBLE": "false", "DW_ADMIN_TOKEN": "a"}, "all", 401, 401),
        ({"DW_OPERATOR_TOKEN": "o", "DW_ADMIN_TOKEN": "a"}, "o", 403, "operator"),
        ({"DW_OPERATOR_TOKEN": "o", "DW_ADMIN_TOKEN": "a"}, "a", 403, "admin"),
        ({}, "anything", 500, 500),
        ({"DW_AUTH_DRIVER": "none"}, "", auth.EVERYTHING, auth.EVERYTHING),
    ],
)
def test_tokens(environ: dict[str, str], token: str, worker_route: object, control_route: object) -> None:
    assert standing(environ, bearer(token), WORKER) == worker_route
    assert standing(environ, bearer(token), CONTROL) == control_route


def test_signatures_cover_the_raw_body() -> None:
    environ = {"DW_AUTH_DRIVER": "signature", "DW_WORKER_SIGNATURE_KEY": "k"}
    signed = {"x-signature": hmac.new(b"k", b"{}", hashlib.sha256).hexdigest()}
    assert standing(environ, signed, WORKER, b"{}") == "worker"
    assert standing(environ, signed, WORKER, b"{ }") == 401
    assert standing(environ, bearer("k"), WORKER, b"{}") == 401


def test_a_hostile_header_is_just_wrong() -> None:
    assert (
        standing(
            {"DW_AUTH_TOKEN": "all"}, {"authorization": "Bearer \u00fc\udcff".encode(errors="replace").decode()}, WORKER
        )
        == 401
    )
