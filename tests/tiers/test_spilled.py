"""Segments whose bodies are elsewhere, in a shard's list: look-ups and masks out of their stubs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from akasha_stream.events.batch import EventBatch
from akasha_stream.hot.dedupe import Deduper
from akasha_stream.hot.hashes import hash_batch, identity_hash, identity_key
from akasha_stream.hot.known import ShardKnown
from akasha_stream.search.segment import Bodies, Fetched, SystemCodes
from akasha_stream.settings import DedupeSettings
from akasha_stream.stream.windows import Outcome
from akasha_stream.tiers.live import live
from akasha_stream.tiers.segment_reader import read_whole
from akasha_stream.tiers.spilled import SpilledSegment, supersede
from akasha_stream.tiers.stored_segment import StoredSegment
from akasha_stream.tiers.stub import Stub, make_stub
from tests.tiers.segments import Change, histories, spilled

CODES = SystemCodes()


class Nothing:
    """search.segment.Bodies that must not be asked."""

    timeout_s = 1.0

    def vectors(self, wanted: Any, use: Any, deadline: float) -> list[Fetched]:
        raise AssertionError

    texts = vectors


NOTHING: Bodies = Nothing()


def segment_of(changes: Sequence[Change], start: int = 0, end: int = 1_000, hash_bits: int = 64) -> SpilledSegment:
    """`hash_bits`: of the identity hashes, so that some are equal."""
    written = spilled(changes, start, end)
    _, changelog = read_whole(written.data, "segment")
    stub = make_stub(written.footer, changelog)
    if hash_bits < 64:
        hashes = stub.rows["identity_hash"].to_numpy() & np.uint64(2**hash_bits - 1)
        at = stub.rows.schema.get_field_index("identity_hash")
        stub = Stub(stub.footer, stub.rows.set_column(at, stub.rows.schema.field(at), pa.array(hashes)))
    stored = StoredSegment("segment", len(written.data), "", written.footer.key, written.footer, "warm")
    return SpilledSegment(stub, stored, CODES, NOTHING)


@settings(deadline=None, max_examples=50)
@given(histories())
def test_rows_are_the_upserts_in_log_order(changes: list[Change]) -> None:
    segment = segment_of(changes)
    upserts = [c for c in changes if c.content is not None]
    deletes = [c for c in changes if c.content is None]
    assert segment.rows == len(upserts) == len(segment.live)
    assert segment.positions.tolist() == [c.position for c in upserts]
    assert [CODES.name(code) for code in segment.systems.tolist()] == [c.system for c in upserts]
    assert segment.view().codes.tolist() == [np.packbits(c.vector > 0).tolist() for c in upserts]
    assert segment.deletes.positions.tolist() == [c.position for c in deletes]
    assert segment.deletes.event_ids.to_pylist() == [c.event_id for c in deletes]
    for change in changes:
        key = identity_key(change.system, change.event_id)
        assert list(segment.with_identity(key, identity_hash(key))) == [
            row for row, c in enumerate(upserts) if (c.system, c.event_id) == (change.system, change.event_id)
        ]
        assert list(segment.with_content(change.seed)) == [
            row for row, c in enumerate(upserts) if c.seed == change.seed
        ]
    asked = np.array([0, *(c.seed for c in changes)], np.uint64)
    assert segment.has_contents(asked).tolist() == [any(c.seed == seed for c in upserts) for seed in asked.tolist()]


@settings(deadline=None, max_examples=100)
@given(histories(), st.data())
def test_of_each_identity_the_newest_row_lives_unless_it_was_deleted(
    changes: list[Change], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(1, 200), max_size=3, unique=True)))
    bits = data.draw(st.sampled_from([1, 3, 64]))
    ranges = list(zip([0, *cuts], [*cuts, 1_000], strict=True))
    if cuts:  # a compacted one beside those that it covers
        ranges.append((0, cuts[-1]))
    segments, tables = [], []
    for start, end in data.draw(st.permutations(ranges)):
        inside = [c for c in changes if start <= c.offset < end]
        segments.append(segment_of(inside, start, end, bits))
        tables.append(read_whole(spilled(inside, start, end).data, "segment")[1])
    supersede(segments)
    alive = sorted(identity for segment in segments for identity in segment.view().identities())
    expected = live(pa.concat_tables(tables)).select(["source_system", "event_id", "position"])
    assert alive == sorted(tuple(row.values()) for row in expected.to_pylist())
    supersede(segments)
    assert alive == sorted(identity for segment in segments for identity in segment.view().identities())


def test_masks_of_nothing() -> None:
    supersede([])
    supersede([segment_of([])])


def test_a_rewritten_segment_has_another_name() -> None:
    assert segment_of([], 0, 10).view().name != segment_of([], 0, 20).view().name


def judged(stored: Change, new: Change, near: float | None = None) -> Outcome:
    """What becomes of an event when the only other one is in a spilled segment."""
    batch = EventBatch(
        offset=np.array([5_000]),
        index=np.array([0], np.int32),
        source_system=pa.array([new.system]),
        event_id=pa.array([new.event_id]),
        content=pa.array([new.content or ""]),
        embedding=new.vector[None],
        model=pa.array([new.model]),
        metadata=pa.array([new.metadata]),
        created_at=np.array([new.created_at]),
        appended_at=np.array([new.created_at]),
        delete=np.array([new.content is None]),
    )
    segment = segment_of([stored])
    known = ShardKnown([segment], batch, hash_batch(batch), CODES)
    verdict = Deduper(DedupeSettings(near_threshold=near)).judge(batch, hash_batch(batch), known)
    return Outcome(int(verdict.outcome[0]))


def test_dedupe_reads_no_bodies() -> None:
    content_hash = xxh3_64_intdigest(b"a\x00same text")
    stored = Change(1, 0, "a", "1", "same text", seed=content_hash)
    other_id = Change(2, 0, "a", "2", "same  text", seed=content_hash)
    day_us = 86_400_000_000
    assert judged(stored, other_id) is Outcome.DUPLICATE_CONTENT
    assert judged(stored, replace(other_id, created_at=other_id.created_at + 2 * day_us)) is Outcome.STORED
    assert judged(stored, replace(other_id, system="b")) is Outcome.STORED
    assert judged(stored, replace(other_id, content="another text")) is Outcome.STORED
    assert judged(stored, replace(other_id, event_id="1", content="another text")) is Outcome.UPDATED
    assert judged(stored, replace(other_id, event_id="1", content=None)) is Outcome.DELETED


def test_near_dedupe_looks_at_local_rows_only() -> None:
    stored = Change(1, 0, "a", "1", "one text", seed=7)
    assert judged(stored, replace(stored, event_id="2", content="another"), near=0.9) is Outcome.STORED
