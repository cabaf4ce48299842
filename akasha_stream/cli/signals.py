"""A command that runs until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from akasha_stream.cli.exits import INTERRUPTED, OK


def run_until_signal(main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run `main` until it returns, or is cancelled by SIGTERM or SIGINT and has cleaned up; the exit code.

    SIGTERM is the orderly way to end a service: 0. SIGINT is Ctrl-C: 130. A second signal doesn't wait for the
    clean-up: embedded servers die with this process all the same.

    `main` imports what is heavy itself, so that a signal during the seconds of the imports is not lost.
    """
    import uvloop

    # The loop's own work was a sixth of a busy worker's CPU: 5 % less of all of it this way.
    return asyncio.run(_watched(main), loop_factory=uvloop.new_event_loop)


async def _watched(main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    loop = asyncio.get_running_loop()
    received: list[int] = []
    task = loop.create_task(main(), name="main")

    def stop(number: int) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        await asyncio.wait([task])
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
    if received:
        return OK if received[0] == signal.SIGTERM else INTERRUPTED
    return OK
