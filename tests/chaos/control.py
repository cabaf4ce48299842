"""What a worker process does to itself when it is told to: dies or stands still at a step, has no room, another clock.

It is told by files in its control folder; `tests/chaos/nursery.py` writes them.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import duckdb

from akasha_stream.hot import durable

ARMED, FIRED, FULL, CLOCK = "armed", "fired", "full", "clock"

_time, _time_ns = time.time, time.time_ns
_ahead_s = 0.0


def shift_clock() -> None:
    """Before the product is imported, which takes time_ns by its name. What reads datetime.now() is not shifted."""
    time.time = lambda: _time() + _ahead_s
    time.time_ns = lambda: _time_ns() + int(_ahead_s * 1e9)


def obey(folder: Path) -> None:
    """In the worker's process, before it starts."""
    armed, full, clock = folder / ARMED, folder / FULL, folder / CLOCK

    def on_step(step: str) -> None:
        if step == "before commit" and full.exists():
            raise duckdb.IOException("No space left on device")
        try:
            how, _, at = armed.read_text().partition(" ")
            if at != step:
                return
            armed.rename(folder / FIRED)  # of several threads one does it
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGSTOP)

    def on_signal(*_: object) -> None:
        global _ahead_s
        _ahead_s = float(clock.read_text())

    durable.on_step = on_step
    signal.signal(signal.SIGUSR1, on_signal)
