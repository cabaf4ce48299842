"""A process that takes a log in and kills itself: python -m tests.hot.kill FOLDER STEP PASSING BUILD"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.dying import die_at
from tests.hot.log import Event, Log, Message, OneShard, settings_for

BATCH = 3


def kill_log(*, forgets: bool = True) -> Log:
    """Some segments full of everything: new, replaced, repeated, deleted, dead letters, gaps, systems forgotten."""
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
        if forgets and i in {20, 41}:
            messages.append(Message((), appended_s=i, forgets=f"s{i % 2}"))
    return Log.of(messages)


def take_in(one: OneShard, log: Log) -> None:
    for low in range(0, len(log), BATCH):
        log.apply(one.shard, low, low + BATCH)
        if one.seal and low % 9 == 0:
            one.sealed()


def main() -> None:
    folder, step, passing, build = sys.argv[1:]
    die_at(step, int(passing))
    with OneShard(settings_for(Path(folder), seal_rows=20, build_indexes=build == "yes")) as one:
        take_in(one, kill_log())
        one.sealed()


if __name__ == "__main__":
    main()
