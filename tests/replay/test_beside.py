"""A shard made anew beside itself: what it then holds, and what a crash on the way leaves."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from akasha_stream.errors import UsageError
from akasha_stream.hot.position import unpack
from akasha_stream.hot.store import ShardStore
from akasha_stream.replay.beside import Beside
from akasha_stream.replay.compare import RowChanges, row_changes
from akasha_stream.settings import DedupeSettings
from tests.hot.kill import kill_log
from tests.hot.log import BUILT_S, Event, Log, Message, live, settings_for, state
from tests.hot.model import Model
from tests.hot.test_model import dedupes, logs
from tests.replay import beside_kill
from tests.replay.beside_kill import FROM, INCARNATION, make_anew, take_in

OLD, NEW = DedupeSettings(window_s=60), DedupeSettings(content=False)


@settings(max_examples=15, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(log=logs, old=dedupes, new=dedupes, rows=st.integers(3, 12), at=st.integers(0, 60))
def test_made_anew_it_is_what_the_old_settings_say_before_a_segment_and_the_new_ones_after(
    *, log: Log, old: DedupeSettings, new: DedupeSettings, rows: int, at: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = ShardStore(settings_for(Path(folder), seal_rows=rows, dedupe=old), "topic")
        take_in(store, log)
        store.close_all()
        store = ShardStore(settings_for(Path(folder), seal_rows=rows, dedupe=new), "topic")
        shard = store.open(0, INCARNATION)
        assert store.wait_sealed(BUILT_S)
        beside = Beside(store, shard, min(at, log.end - 1))
        start = beside.start
        log.apply(beside.shard)
        changes = row_changes(shard, beside.shard)
        was = live(shard)
        replaced = beside.replace()
        model = Model(old)
        for offset, message in zip(log.offsets, log.messages, strict=True):
            if offset >= start:
                model.dedupe = new
            for index, event in enumerate(message.events):
                model.event(event, offset << 16 | index)
        assert live(replaced) == model.expected()
        rows_of = {position: value for position, *value in was.values()}
        now = {position: value for position, *value in live(replaced).values()}
        assert changes == RowChanges(len(now.keys() - rows_of.keys()), len(rows_of.keys() - now.keys()), 0)
        before = state(replaced)
        store.close_all()
        store = ShardStore(settings_for(Path(folder), seal_rows=rows, dedupe=new), "topic")
        assert state(store.open(0, INCARNATION)) == before
        store.close_all()


def test_the_live_shard_goes_on_meanwhile_and_a_search_keeps_its_views(tmp_path: Path) -> None:
    log = kill_log(forgets=False)
    store = ShardStore(beside_kill.settings(tmp_path, NEW), "topic")
    shard = store.open(0, INCARNATION)
    log.apply(shard, 0, 40)
    assert store.wait_sealed(BUILT_S)
    beside = Beside(store, shard, FROM)
    log.apply(beside.shard, 0, 40)
    log.apply(shard, 40)
    held = shard.views()
    log.apply(beside.shard, 40)
    beside.replace()
    assert [view.texts([0])[0].event_id for view in held if view.rows]
    assert store.shard(0) is not shard
    assert live(store.open(0, INCARNATION)) == Model(NEW).run(log).expected()
    store.close_all()


def test_a_segment_in_the_object_store_is_not_made_anew(tmp_path: Path) -> None:
    store = ShardStore(beside_kill.settings(tmp_path, NEW), "topic")
    take_in(store, kill_log())
    shard = store.open(0, INCARNATION)
    shard.segments[1].spilled = True  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="object store"):
        Beside(store, shard, shard.segments[1].name.start)
    with pytest.raises(UsageError, match="object store"):
        Beside(store, shard, 0)
    Beside(store, shard, shard.segments[2].name.start).discard()
    store.close_all()


@pytest.mark.parametrize(
    ("step", "passing"),
    [("history shared", 1), ("committed", 3), ("next segment created", 2), ("old shard set aside", 1),
     ("new shard in place", 1)],
)  # fmt: skip
def test_killed_while_a_shard_is_made_anew_nothing_is_lost_and_it_goes_on(
    tmp_path: Path, step: str, passing: int
) -> None:
    log = kill_log()
    store = ShardStore(beside_kill.settings(tmp_path, OLD), "topic")
    take_in(store, log)
    was = live(store.open(0, INCARNATION))
    first = next(s.name.start for s in reversed(store.open(0, INCARNATION).segments) if s.name.start <= FROM)
    store.close_all()
    command = [sys.executable, "-m", "tests.replay.beside_kill", str(tmp_path), step, str(passing)]
    assert subprocess.run(command, check=False).returncode == -9
    store = ShardStore(beside_kill.settings(tmp_path, NEW), "topic")
    shard = store.open(0, INCARNATION)
    assert store.wait_sealed(BUILT_S)
    made = step in {"old shard set aside", "new shard in place"}
    found = live(shard)
    assert (found != was) == made
    if not made:
        beside = Beside(store, shard, FROM)
        went_on = beside.shard.next_offset
        assert (went_on > first) == (step != "history shared")
        beside.close()
        make_anew(store, log)
        found = live(store.open(0, INCARNATION))
    assert not store.replay_folder(0).exists()
    # Before the segment as it was, from there on under the new settings: kill_log drops texts that stand twice.
    assert {p for p, *_ in was.values() if unpack(p).offset < first} >= {
        p for p, *_ in found.values() if unpack(p).offset < first
    }
    assert len(found) > len(was)
    store.close_all()


def test_changes_of_rows_at_their_own_places(tmp_path: Path) -> None:
    logs = [
        Log.of([Message((Event("a", str(i), f"{text} {i}", i),)) for i in range(count)])
        for text, count in (("secret", 5), ("***", 4))
    ]
    store = ShardStore(settings_for(tmp_path), "topic")
    shards = [store.open(number, INCARNATION) for number in range(2)]
    for log, shard in zip(logs, shards, strict=True):
        log.apply(shard)
    assert row_changes(*shards) == RowChanges(came=0, went=1, changed=4)
    store.close_all()
