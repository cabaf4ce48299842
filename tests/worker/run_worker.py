"""A worker as a process of its own, to be killed: `python -m tests.worker.run_worker '{"hot.data_dir": …}'`.

Prints one JSON line when it is ready. SIGTERM stops it in order. With KILL_AT it dies at that step (hot/durable.py).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from typing import Any

from akasha_stream.settings import Settings
from akasha_stream.worker import Worker
from tests.dying import die_at


async def main() -> None:
    started = time.monotonic()
    settings = Settings.load(overrides=json.loads(sys.argv[1]))
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    async with Worker(settings) as worker:
        ready = asyncio.create_task(worker.ready())
        ended = asyncio.create_task(over.wait())
        await asyncio.wait([ready, ended], return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            await ready
            sys.stdout.write(json.dumps({"url": worker.url, "ready_s": round(time.monotonic() - started, 3)}) + "\n")
            sys.stdout.flush()
        waited: list[asyncio.Future[Any]] = [ended, worker.failed]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if worker.failed.done():
            worker.failed.result()


if __name__ == "__main__":
    from akasha_stream.logs import configure

    if step := os.environ.get("KILL_AT"):
        die_at(step)

    configure(Settings.load(overrides=json.loads(sys.argv[1])).logging)
    asyncio.run(main())
