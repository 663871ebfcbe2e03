"""A worker of the official Python SDK as a process of its own: `python -m support.sdk_worker URL QUEUE`.

The token comes from SDK_WORKER_TOKEN. SIGTERM drains it: it stops polling, finishes what it holds and deregisters.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from durable_workflow import Client, Worker

from support.sdk_flows import ACTIVITIES, FLOWS


async def main(url: str, queue: str) -> None:
    """Poll until SIGTERM."""
    async with Client(url, worker_token=os.environ["SDK_WORKER_TOKEN"]) as client:
        worker = Worker(client, task_queue=queue, workflows=FLOWS, activities=ACTIVITIES, poll_timeout=10)
        running = asyncio.create_task(worker.run())
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        print("polling", flush=True)  # noqa: T201 - whoever started it waits for this
        await asyncio.wait({running, asyncio.create_task(stopped.wait())}, return_when=asyncio.FIRST_COMPLETED)
        await worker.stop()
        await running


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
