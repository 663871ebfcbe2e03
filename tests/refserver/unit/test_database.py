"""What becomes of the errors that a connection ends with."""

from __future__ import annotations

import asyncio

import pytest
from dw_refserver.store.database import _retried


@pytest.mark.parametrize(
    "said",
    [
        "unable to perform operation on <TCPTransport closed=True>; the handler is closed",
        "Transport does not expose socket instance",
    ],
)
def test_a_connection_that_went_away_is_a_lost_database_and_no_bug(said: str) -> None:
    async def once() -> None:
        raise RuntimeError(said)

    with pytest.raises(ConnectionError):
        asyncio.run(_retried(once))


def test_another_runtime_error_is_a_bug_and_passes() -> None:
    async def once() -> None:
        raise RuntimeError("cannot reuse already awaited coroutine")

    with pytest.raises(RuntimeError, match="awaited"):
        asyncio.run(_retried(once))
