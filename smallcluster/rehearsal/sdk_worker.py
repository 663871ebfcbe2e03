"""An external worker as its users write one: the official Python SDK's, as a process of its own.

It runs one workflow, an activity and then a timer, and drains when it is told to with SIGTERM, or when whoever started
it is gone. Its token comes in its environment. Nothing else of the harness imports the SDK.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Generator
from typing import Any

from durable_workflow import Client, Worker, activity, workflow

from smallcluster.rehearsal.worker import HOLD_SECONDS, TIMER_SECONDS, TOKEN, WORK_SECONDS, asked, when_alone

ACTIVITY = "rehearsal.sdk-activity"


@activity.defn(name=ACTIVITY)
async def join(first: str, second: str) -> str:
    """Half way through, a heartbeat."""
    await asyncio.sleep(WORK_SECONDS / 2)
    await activity.context().heartbeat({"of": 2})
    await asyncio.sleep(WORK_SECONDS / 2)
    return f"{first} {second}"


class Flow:
    """An activity, then a timer that may come due while nothing serves."""

    def run(self, ctx: Any, first: str, second: str) -> Generator[Any, Any, str]:  # noqa: ANN401 - the SDK's own
        """Give what the activity gave."""
        joined = yield ctx.schedule_activity(ACTIVITY, [first, second])
        yield ctx.start_timer(TIMER_SECONDS)
        return str(joined)


async def main(arguments: list[str]) -> None:
    """Poll until SIGTERM."""
    given = asked(arguments)
    flow = workflow.defn(name=given.types)(Flow)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    when_alone(lambda: loop.call_soon_threadsafe(stopped.set))
    async with Client(given.url, worker_token=os.environ[TOKEN], namespace=given.namespace) as client:
        worker = Worker(client, task_queue=given.queue, workflows=[flow], activities=[join],
                        worker_id=given.name, poll_timeout=HOLD_SECONDS)  # fmt: skip
        running = asyncio.create_task(worker.run())
        told = asyncio.create_task(stopped.wait())
        await asyncio.wait({running, told}, return_when=asyncio.FIRST_COMPLETED)
        await worker.stop()
        await running


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
    asyncio.run(main(sys.argv[1:]))
