"""Judging a log again finds a difference where, and only where, reading it again would make one."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from akasha_stream.replay.check import Check
from akasha_stream.replay.effect import Effect
from akasha_stream.settings import DedupeSettings
from tests.hot.log import Event, Log, Message, OneShard, cut, live, settings_for
from tests.hot.model import Model
from tests.hot.test_model import dedupes, logs
from tests.replay.decoding import LogDecoder

few = settings(max_examples=25, phases=[Phase.explicit, Phase.reuse, Phase.generate])
"""A shard costs half a second: shrinking would take minutes."""
edges = st.lists(st.integers(0, 30), max_size=6)


def check(
    one: OneShard, log: Log, dedupe: DedupeSettings, cuts: list[int], *, low: int = 0, refuse: tuple[int, ...] = ()
) -> Effect:
    checking = Check(one.shard, one.codes, LogDecoder(log, refuse), dedupe)
    for start, end in cut(log, cuts):
        if end > low:
            checking.take(log.records(max(start, low), end))
    return checking.effect


def filled(folder: str, log: Log, dedupe: DedupeSettings, rows: int = 100) -> OneShard:
    one = OneShard(settings_for(Path(folder), seal_rows=rows, dedupe=dedupe))
    log.apply(one.shard)
    return one


@few
@given(log=logs, cuts=edges, dedupe=dedupes, rows=st.integers(3, 12), low=st.integers(0, 30), sealed=st.booleans())
def test_a_shard_under_its_own_settings_has_no_difference(
    *, log: Log, cuts: list[int], dedupe: DedupeSettings, rows: int, low: int, sealed: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder, filled(folder, log, dedupe, rows) as one:
        if sealed:
            one.sealed()
            one.reopen()
        effect = check(one, log, dedupe, cuts, low=min(low, len(log)))
        assert effect.changes == 0, effect
        assert effect.first_difference is None
        assert effect.unchanged == effect.events == sum(len(m.events) for m in log.messages[low:])
        assert effect.records == len(log.messages[low:])


@few
@given(log=logs, cuts=edges, old=dedupes, new=dedupes, rows=st.integers(3, 12))
def test_no_difference_is_found_only_where_a_new_reading_makes_none(
    *, log: Log, cuts: list[int], old: DedupeSettings, new: DedupeSettings, rows: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, filled(folder, log, old, rows) as one:
        effect = check(one, log, new, cuts)
        expected = Model(new).run(log).expected()
        if effect.first_difference is None:
            assert effect.changes == 0
            assert live(one.shard) == expected
        else:
            # Nothing that the log says before that offset is otherwise today.
            kept = [m for o, m in zip(log.offsets, log.messages, strict=True) if o < effect.first_difference]
            before = Log(tuple(kept), log.offsets[: len(kept)])
            assert Model(old).run(before).expected() == Model(new).run(before).expected()


@few
@given(log=logs, data=st.data())
def test_what_is_refused_today_is_counted_as_removed(log: Log, data: st.DataObject) -> None:
    dedupe = DedupeSettings(content=False)
    with tempfile.TemporaryDirectory() as folder, filled(folder, log, dedupe) as one:
        rows = live(one.shard)
        assume(rows)
        identity = data.draw(st.sampled_from(sorted(rows)))
        offset = rows[identity][0] >> 16
        rows_of_it = sum(position >> 16 == offset for position, *_ in rows.values())
        alone = Check(one.shard, one.codes, LogDecoder(log, (offset,)), dedupe)
        number = log.offsets.index(offset)
        alone.take(log.records(number, number + 1))
        assert (alone.effect.removed, alone.effect.refused, alone.effect.first_difference) == (rows_of_it, 1, offset)
        # In the whole log a later event may be dropped as well: a copy of one that the refused record had deleted.
        effect = check(one, log, dedupe, [], refuse=(offset,))
        assert effect.removed >= rows_of_it
        assert effect.refused == 1
        assert effect.first_difference is not None
        assert effect.first_difference <= offset


def test_what_was_dropped_by_a_wider_window_is_new_and_the_other_way_round_removed(tmp_path: Path) -> None:
    log = Log.of([Message((Event("a", str(i), "same text", i, created_s=i * 40),)) for i in range(4)])
    wide, narrow = DedupeSettings(window_s=1000), DedupeSettings(window_s=10)
    with filled(str(tmp_path / "wide"), log, wide) as one:
        assert len(live(one.shard)) == 1
        assert (check(one, log, narrow, []).new, check(one, log, narrow, []).first_difference) == (3, 1)
    with filled(str(tmp_path / "narrow"), log, narrow) as one:
        assert len(live(one.shard)) == 4
        assert (check(one, log, wide, [1, 2]).removed, check(one, log, wide, []).first_difference) == (3, 1)


def test_other_content_at_a_rows_own_place_is_replaced(tmp_path: Path) -> None:
    log = Log.of([Message((Event("a", str(i), f"secret {i}", i),)) for i in range(3)])
    cleaned = Log.of([Message((Event("a", str(i), f"*** {i}", i),)) for i in range(3)])
    with filled(str(tmp_path), log, DedupeSettings()) as one:
        assert check(one, cleaned, DedupeSettings(), []).replaced == 3


def test_a_forgotten_system_is_not_new(tmp_path: Path) -> None:
    messages = [Message((Event("a", "1", "x"), Event("a", "2", "y"))), Message((), forgets="a")]
    log = Log.of([*messages, Message((Event("b", "1", "z"),))])
    with filled(str(tmp_path), log, DedupeSettings()) as one:
        for cuts in ([], [1], [1, 2]):
            assert check(one, log, DedupeSettings(), cuts).changes == 0
        one.sealed()  # and rewritten without it
        assert check(one, log, DedupeSettings(), []).first_difference is None
        first = Check(one.shard, one.codes, LogDecoder(log), DedupeSettings())
        first.take(log.records(0, 1))
        assert first.effect.changes == 0


def test_records_that_the_shard_has_not_taken_yet_are_left_alone(tmp_path: Path) -> None:
    log = Log.of([Message((Event("a", str(i), f"{i}", i),)) for i in range(6)])
    with OneShard(settings_for(tmp_path)) as one:
        log.apply(one.shard, 0, 4)
        effect = check(one, log, DedupeSettings(), [3])
        assert (effect.events, effect.changes) == (4, 0)
