"""A process that makes a shard anew and kills itself: python -m tests.replay.beside_kill FOLDER STEP PASSING"""

from __future__ import annotations

import sys
from pathlib import Path

from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from akasha_stream.replay.beside import Beside
from akasha_stream.settings import DedupeSettings, Settings
from tests.dying import die_at
from tests.hot.kill import kill_log
from tests.hot.log import BUILT_S, Log, settings_for

INCARNATION = Incarnation("cluster", "topic-1")
FROM = 25


def settings(folder: Path, dedupe: DedupeSettings) -> Settings:
    return settings_for(folder, seal_rows=20, dedupe=dedupe)


def take_in(store: ShardStore, log: Log) -> None:
    shard = store.open(0, INCARNATION)
    for low in range(0, len(log), 5):
        log.apply(shard, low, low + 5)
    assert store.wait_sealed(BUILT_S)


def make_anew(store: ShardStore, log: Log, offset: int = FROM) -> None:
    beside = Beside(store, store.open(0, INCARNATION), offset)
    for low in range(0, len(log), 3):
        log.apply(beside.shard, low, low + 3)
    beside.replace()


def main() -> None:
    folder, step, passing = sys.argv[1:]
    log = kill_log()
    store = ShardStore(settings(Path(folder), DedupeSettings(content=False)), "topic")
    shard = store.open(0, INCARNATION)
    assert shard.next_offset == log.end
    die_at(step, int(passing))
    make_anew(store, log)
    store.close_all()


if __name__ == "__main__":
    main()
