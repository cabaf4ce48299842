"""A shard against a plain model, for any log, any cutting of it into batches, any restarts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from akasha_stream.hot import recovery
from akasha_stream.hot.cutter import SegmentCutter
from akasha_stream.hot.position import MAX_EPOCH, MAX_INDEX, MAX_OFFSET, Place, pack, pack_many, unpack
from akasha_stream.hot.segment_tables import SegmentTables
from akasha_stream.settings import DedupeSettings
from tests.hot.log import Event, Log, Message, OneShard, counters, cut, live, settings_for, state
from tests.hot.model import Model

events = st.builds(
    Event,
    system=st.sampled_from(["a", "b"]),
    event_id=st.sampled_from(["1", "2", "3", "4", "5"]),
    content=st.sampled_from(["x", "y", " x  ", "z\ty", "z y", ""]),
    vector=st.integers(0, 5),
    created_s=st.integers(0, 200),
    delete=st.sampled_from([False, False, False, True]),
)
messages = st.builds(
    Message,
    events=st.lists(events, max_size=5).map(tuple),
    appended_s=st.integers(0, 20),
    gap=st.sampled_from([0, 0, 1, 7]),
)
logs = st.lists(messages, min_size=1, max_size=30).map(Log.of)
dedupes = st.sampled_from(
    [
        DedupeSettings(window_s=60),
        DedupeSettings(window_s=0),
        DedupeSettings(content=False, near_threshold=0.99),
        DedupeSettings(window_s=30, near_threshold=1.0),
    ]
)
few = settings(max_examples=8)


@few
@given(log=logs, edges=st.lists(st.integers(0, 30), max_size=6), dedupe=dedupes, rows=st.integers(3, 12))
def test_any_cutting_of_a_log_stores_what_the_model_says(
    log: Log, edges: list[int], dedupe: DedupeSettings, rows: int
) -> None:
    model = Model(dedupe).run(log)
    with (
        tempfile.TemporaryDirectory() as folder,
        OneShard(settings_for(Path(folder), seal_rows=rows, dedupe=dedupe)) as one,
    ):
        applied = [each for low, high in cut(log, edges) for each in log.apply(one.shard, low, high)]
        assert live(one.shard) == model.expected()
        assert counters(one.shard) == dict(sorted(model.counters.items()))
        outcomes = np.bincount(np.array(model.outcomes, np.int64), minlength=6)
        assert np.sum([each.outcomes for each in applied], axis=0).tolist() == outcomes.tolist()
        assert one.shard.progress.dead_letters == len(log.dead())
        assert one.shard.next_offset == log.end
        for (system, event_id), (position, *_) in model.expected().items():
            found = one.shard.find(system, event_id)
            assert found is not None
            assert found[0].texts([found[1]])[0].position == position
            assert one.shard.at(position) is not None
        one.sealed()
        assert live(one.shard) == model.expected()


@few
@given(
    log=logs,
    edges=st.lists(st.integers(0, 30), max_size=5),
    others=st.lists(st.integers(0, 30), max_size=5),
    restarts=st.lists(st.booleans(), min_size=6, max_size=6),
    seal=st.booleans(),
    piece=st.integers(1, 4),
    step=st.integers(1, 4),
)
def test_reopening_at_any_point_gives_the_same_state(
    *, log: Log, edges: list[int], others: list[int], restarts: list[bool], seal: bool, piece: int, step: int
) -> None:
    """However the rows are cut into pieces when they are read, and those into steps of the fold."""
    dedupe = DedupeSettings(window_s=60, near_threshold=0.999)
    states, tiles = [], []
    whole = SegmentTables.pieces

    def cut_pieces(tables: SegmentTables, dimensions: int) -> Iterator[pa.Table]:
        for rows in whole(tables, dimensions):
            yield from (rows[start : start + piece] for start in range(0, rows.num_rows, piece))

    for cuts, again in ((edges, restarts), (others, [False] * 6)):
        with (
            patch.object(SegmentTables, "pieces", cut_pieces),
            patch.object(recovery, "FOLD_ROWS", step),
            tempfile.TemporaryDirectory() as folder,
            OneShard(settings_for(Path(folder), seal_rows=8, dedupe=dedupe), seal=seal) as one,
        ):
            for (low, high), restart in zip(cut(log, cuts), [*again, True], strict=False):
                log.apply(one.shard, low, high)
                if restart:
                    before = state(one.shard)
                    one.reopen()
                    assert state(one.shard) == before
                    assert log.apply(one.shard, low, high) == []
            log.apply(one.shard)
            states.append(state(one.shard))
            tiles.append([str(segment.name) for segment in one.shard.segments])
    assert states[0] == states[1]
    assert tiles[0] == tiles[1]


@few
@given(
    log=logs, acked=st.lists(st.integers(0, 3), min_size=7, max_size=7), edges=st.lists(st.integers(0, 30), max_size=6)
)
def test_acknowledged_digests_are_not_sent_again(log: Log, acked: list[int], edges: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with OneShard(settings_for(Path(folder) / "all", seal_rows=8), seal=False) as one:
            log.apply(one.shard)
            everything = state(one.shard)[2]
        sent: list[bytes] = []
        with OneShard(settings_for(Path(folder) / "some", seal_rows=8), seal=False) as one:
            for (low, high), count in zip(cut(log, edges), acked, strict=False):
                log.apply(one.shard, low, high)
                one.shard.fold_windows()
                pending = one.shard.pending_digests(count)
                one.shard.digests_acknowledged(len(pending))
                sent += [each.value() for each in pending]
                one.reopen()
            log.apply(one.shard)
            one.shard.fold_windows()
            assert sent + [each.value() for each in one.shard.pending_digests(1000)] == everything


@given(log=logs, rows=st.integers(3, 12), age=st.integers(1, 15))
def test_segments_tile_the_log_wherever_batches_end(log: Log, rows: int, age: int) -> None:
    cutter = SegmentCutter(rows, age * 1000)
    count, first, starts = 0, None, [0]
    for offset, message in zip(log.offsets, log.messages, strict=True):
        at = message.appended_s * 1000
        if cutter.cut_before(count, first, len(message.events), at):
            starts.append(offset)
            count, first = 0, None
        count += len(message.events)
        first = at if first is None else first
    assert starts == sorted(set(starts))
    assert all(not cutter.due(None, now) for now in (0, 10**15))


@few
@given(log=logs, edges=st.lists(st.integers(0, 30), max_size=6), rows=st.integers(5, 12), age=st.integers(1, 15))
def test_each_segment_starts_where_the_one_before_ends(log: Log, edges: list[int], rows: int, age: int) -> None:
    names = []
    for cuts in (edges, []):
        with (
            tempfile.TemporaryDirectory() as folder,
            OneShard(settings_for(Path(folder), seal_rows=rows, seal_age_s=age), seal=False) as one,
        ):
            for low, high in cut(log, cuts):
                log.apply(one.shard, low, high)
            names.append([segment.name.start for segment in one.shard.segments])
            ends = [each.end for each in one.closed]
            assert ends == names[-1][1:]
    assert names[0] == names[1]


@given(st.integers(0, MAX_EPOCH), st.integers(0, MAX_OFFSET), st.integers(0, MAX_INDEX))
def test_a_position_gives_its_place_back(epoch: int, offset: int, index: int) -> None:
    position = pack(epoch, offset, index)
    assert 0 <= position < 2**63
    assert unpack(position) == Place(epoch, offset, index)
    assert pack_many(epoch, np.array([offset]), np.array([index], np.int32)).tolist() == [position]


@given(st.lists(st.tuples(st.integers(0, MAX_EPOCH), st.integers(0, MAX_OFFSET), st.integers(0, MAX_INDEX))))
def test_positions_have_the_order_of_the_log(places: list[tuple[int, int, int]]) -> None:
    assert [unpack(position) for position in sorted(pack(*place) for place in places)] == sorted(places)
