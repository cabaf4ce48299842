"""A process that takes a log in and kills itself: python -m tests.hot.kill FOLDER STEP PASSING BUILD"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from akasha_stream.hot import durable
from tests.hot.log import Event, Log, Message, OneShard, settings_for

BATCH = 3


def kill_log() -> Log:
    """Some segments' worth of everything: new, replaced, repeated, deleted, dead letters, gaps."""
    messages = []
    for i in range(60):
        events = tuple(
            Event(
                system=f"s{(i + j) % 2}",
                event_id=str((i * 3 + j * 7) % 31),
                content=f"text {(i + j) % 17}",
                vector=i,
                created_s=i * 2,
                delete=(i + j) % 9 == 0,
            )
            for j in range(i % 4)
        )
        messages.append(Message(events, appended_s=i, gap=i % 5 == 0))
    return Log.of(messages)


def take_in(one: OneShard, log: Log) -> None:
    for low in range(0, len(log), BATCH):
        log.apply(one.shard, low, low + BATCH)
        if one.seal and low % 9 == 0:
            one.sealed()


def main() -> None:
    folder, step, passing, build = sys.argv[1:]
    left = int(passing)

    def on_step(name: str) -> None:
        nonlocal left
        if name == step:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    durable.on_step = on_step
    with OneShard(settings_for(Path(folder), seal_rows=20, build_indexes=build == "yes")) as one:
        take_in(one, kill_log())
        one.sealed()


if __name__ == "__main__":
    main()
