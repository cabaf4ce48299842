"""A process that kills itself at one of the named steps (hot.durable.passed)."""

from __future__ import annotations

import os
import signal

from akasha_stream.hot import durable


def die_at(step: str, passing: int = 1) -> None:
    """SIGKILL when this step is passed for the `passing`th time."""
    left = passing

    def on_step(name: str) -> None:
        nonlocal left
        if name == step:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    durable.on_step = on_step
