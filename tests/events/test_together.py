"""Many records decoded at once become what each becomes alone: batches must not show in what is stored."""

from __future__ import annotations

import random
import struct
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.events.arrow_bundle import _header, _table_field
from akasha_stream.events.bundles import encode_bundle, wire_schema
from akasha_stream.events.decode import Decoder
from akasha_stream.events.model import Event
from akasha_stream.events.records import Decoded, Record
from akasha_stream.settings import Limits
from tests.events.conversions import NOW_MS, arrow_record, record
from tests.events.malformed import DIMENSIONS, KINDS, RARE, malformed

LIMITS = Limits(future_s=400 * 86_400)
GOOD = "good"
THEN = datetime(2026, 1, 2, tzinfo=UTC)


def make(kind: str, seed: int, offset: int) -> Record:
    if kind == GOOD:
        rng = np.random.default_rng(seed)
        events = [
            Event(f"id-{seed}-{n}", "s", f"text {n}", rng.standard_normal(DIMENSIONS).astype(np.float32))
            for n in range(seed % 3 + 1)
        ]
        return record(events, offset=offset, timestamp_ms=2 * NOW_MS)
    _, key, value, headers = malformed(kind, random.Random(seed))
    return Record(0, offset, 2 * NOW_MS, key, value, headers)


def outcome(decoded: Decoded) -> tuple[list[object], list[object]]:
    batch = decoded.batch
    rows = zip(
        batch.offset.tolist(), batch.index.tolist(), batch.event_id.to_pylist(), batch.content.to_pylist(), strict=True
    )
    events = [(*row, vector.tobytes()) for row, vector in zip(rows, batch.embedding, strict=True)]
    return list(events), [(d.record.offset, d.reason, d.index, d.event, d.events) for d in decoded.dead]


@given(
    st.lists(st.tuples(st.sampled_from([GOOD, GOOD, *sorted(KINDS.keys() - RARE)]), st.integers(0, 50)), max_size=12)
)
def test_together_as_alone(kinds: list[tuple[str, int]]) -> None:
    records = [make(kind, seed, offset) for offset, (kind, seed) in enumerate(kinds)]
    alone: tuple[list[object], list[object]] = ([], [])
    for each in records:
        events, dead = outcome(Decoder(LIMITS, None).decode([each]))
        alone[0].extend(events)
        alone[1].extend(dead)
    together = Decoder(LIMITS, None)
    together.decode([make(GOOD, 1, 0)])  # its schema is known then
    decoded = together.decode(records)
    assert outcome(decoded) == alone
    assert [records[place].offset for place in decoded.record_of.tolist()] == decoded.batch.offset.tolist()


def schema_with_body(schema: bytes, length: int) -> bytes:
    """An encapsulated schema message that says that `length` bytes of body follow it, which no writer does."""
    old = schema[8:]
    root = struct.unpack_from("<I", old, 0)[0]
    version = struct.unpack_from("<h", old, _table_field(old, root, 0))[0]
    start = 48  # where the old message goes; behind it all its offsets stay right, being relative
    table = 24
    new = struct.pack("<I4x", table)
    new += struct.pack("<6H4x", 12, 24, 4, 6, 8, 16)
    new += struct.pack(
        "<ihBxI4xq", table - 8, version, old[_table_field(old, root, 1)], start + _header(old) - table - 8, length
    )
    return struct.pack("<II", 0xFFFFFFFF, len(new + old)) + new + old


def test_a_schema_message_with_a_body_is_no_plain_bundle() -> None:
    """Its record batch stands behind that body: read alone and together, it must be the same one."""
    value = encode_bundle([Event("id", "s", "text", np.full(8, 0.5, np.float32), created_at=THEN)])
    plain = wire_schema(8).serialize().to_pybytes()
    batch = value[len(plain) : -8]
    schema = schema_with_body(plain, len(batch))
    decoder = Decoder(Limits(dimensions=8), None)
    assert len(decoder.decode([arrow_record(schema + bytes(len(batch)) + batch)]).batch) == 1
    # Alone, the batch is the body of the schema message, and nothing follows.
    skips, good = arrow_record(schema + value[len(plain) :]), arrow_record(value, offset=1)
    assert [letter.reason for letter in decoder.decode([skips]).dead] == ["bundle_empty"]
    decoded = decoder.decode([skips, good, good])
    assert [letter.reason for letter in decoded.dead] == ["bundle_empty"]
    assert decoded.batch.offset.tolist() == [1, 1]


def test_arrow_reads_small_bundles_by_one_call() -> None:
    """The fast way is taken: else small bundles cost four times as much, and nothing shows it."""
    decoder = Decoder(Limits(dimensions=8), None)
    values = [encode_bundle([Event(f"id-{n}", "s", "text", np.full(8, 0.5, np.float32))]) for n in range(5)]
    joined = decoder._arrow.read_together(values)
    assert joined is not None
    assert (joined.places, joined.rows) == ([0, 1, 2, 3, 4], [1] * 5)
    assert isinstance(joined.batch, pa.RecordBatch)
