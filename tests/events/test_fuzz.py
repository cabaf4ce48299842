"""Truncated and flipped bytes: the process lives, and the neighbours' events are untouched."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from akasha_stream.events.decode import Decoder, Record
from akasha_stream.events.model import Event
from akasha_stream.events.reasons import REASONS
from akasha_stream.events.redaction import Redactor
from akasha_stream.settings import Limits, RedactionSettings
from tests.events.conversions import NOW_MS, arrow_record, record
from tests.events.malformed import columns_of, ipc

EVENTS = [
    Event(f"id-{number}", "s", "text of a good length for this", np.full(8, 0.3, np.float32), metadata={"n": number})
    for number in range(4)
]
AFTER = 2 * NOW_MS


def _variants() -> dict[str, bytes]:
    wire = record(EVENTS).value
    json = record(EVENTS, "json").value
    assert wire is not None
    assert json is not None
    columns = columns_of(wire)
    strings = {name: column for name, column in columns.items() if column.type == pa.string()}
    return {
        "wire": wire,
        "json": json,
        "dictionaries": ipc({**columns, **{name: column.dictionary_encode() for name, column in strings.items()}}),
        "views": ipc({**columns, **{name: column.cast(pa.string_view()) for name, column in strings.items()}}),
        "lists": ipc(
            {
                **columns,
                "embedding": columns["embedding"].cast(pa.list_(pa.float64())),
                "created_at": columns["created_at"].cast(pa.timestamp("ns", "UTC")),
                "extra": pa.array([[{"a": "b"}]] * 4),
            }
        ),
    }


VARIANTS = _variants()


def spoilt(value: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        return value[: rng.randrange(len(value))]
    data = bytearray(value)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        at = rng.randrange(len(data))
        if rng.random() < 0.6:
            data[at] ^= 1 << rng.randrange(8)
        else:
            width = rng.choice([1, 4, 8])
            data[at : at + width] = rng.choice([b"\xff", b"\x7f", b"\0", b"\x80"]) * width
    return bytes(data)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("runs", [400, pytest.param(6_000, marks=pytest.mark.slow)])
def test_no_bytes_hurt(variant: str, runs: int) -> None:
    decoder = Decoder(Limits(dimensions=8), Redactor(RedactionSettings(builtin=False)))
    rng = random.Random(f"{variant} {runs}")
    before, after = record(EVENTS, offset=1, timestamp_ms=AFTER), record(EVENTS, "json", offset=3, timestamp_ms=AFTER)
    for _ in range(runs):
        value = spoilt(VARIANTS[variant], rng)
        bad = arrow_record(value, offset=2) if variant != "json" else Record(0, 2, AFTER, b"s", value)
        decoded = decoder.decode([before, bad, after])
        offsets = decoded.batch.offset.tolist()
        assert offsets.count(1) == 4
        assert offsets.count(3) == 4
        assert all(letter.reason in REASONS and letter.record is bad for letter in decoded.dead)
        # Nothing of the record is lost without a letter.
        if value and not any(letter.index is None for letter in decoded.dead):
            assert offsets.count(2) + len(decoded.dead) >= 1
