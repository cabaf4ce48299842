"""What must hold of every case: nothing raises, nothing is lost, nothing that breaks a limit is stored."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from akasha_stream.events.batch import EventBatch
from akasha_stream.events.dead_letters import dead_letter_record
from akasha_stream.events.decode import Decoder
from akasha_stream.events.forget import is_forget
from akasha_stream.events.reasons import REASONS
from akasha_stream.events.records import DeadLetter, Decoded, Record
from tests.fuzz.arrow_bundles import SOUND
from tests.fuzz.cases import LIMITS, Case

DETAIL_CHARACTERS = 1_000
IDS = [event.event_id for event in SOUND]
CONTENTS = [event.content for event in SOUND]


@dataclass(slots=True)
class Seen:
    """Of all cases so far."""

    records: int = 0
    events: int = 0
    letters: Counter[str] = field(default_factory=Counter)
    """By reason."""


def check(case: Case, decoder: Decoder, seen: Seen) -> None:
    """Raises AssertionError, or what the decoder raised."""
    decoded = decoder.decode(case.records)
    _check_batch(decoded, case)
    letters: dict[int, list[DeadLetter]] = {}
    for letter in decoded.dead:
        letters.setdefault(letter.record.offset, []).append(letter)
        assert letter.record is case.records[letter.record.offset]
        _check_letter(letter, decoder)
    for place, record in enumerate(case.records):
        _check_counts(record, np.flatnonzero(decoded.record_of == place), decoded.batch, letters.get(place, []))
        if place in case.sound:
            assert place not in letters, letters[place]
            rows = np.flatnonzero(decoded.record_of == place)
            assert decoded.batch.event_id.take(rows).to_pylist() == IDS
            assert decoded.batch.content.take(rows).to_pylist() == CONTENTS
            assert (decoded.batch.embedding[rows] == np.float32(0.3)).all()
    seen.records += len(case.records)
    seen.events += len(decoded.batch)
    seen.letters.update(letter.reason for letter in decoded.dead)


def _check_counts(record: Record, rows: Any, batch: EventBatch, letters: list[DeadLetter]) -> None:
    """Each event of a record is stored or has a letter, and not both; or one letter has them all."""
    if any(letter.index is None for letter in letters):
        assert len(letters) == 1, "a letter of the whole record, and others"
        assert not len(rows), "a letter of the whole record, and events of it"
        return
    accounted = sorted([*batch.index[rows].tolist(), *(letter.index for letter in letters)])
    assert accounted == list(range(_events_in(record))), f"events {accounted} of {_events_in(record)}"


def _events_in(record: Record) -> int:
    """By readers that are not the product's."""
    if is_forget(record):
        return 0
    value = record.value or b""
    for name, content in record.headers:
        if name.lower() == "content-type":
            if b"arrow" in (content or b"").lower():
                return sum(batch.num_rows for batch in pa.ipc.open_stream(value))
            break
    found = json.loads(value)
    return len(found) if isinstance(found, list) else 1


def _check_letter(letter: DeadLetter, decoder: Decoder) -> None:
    assert letter.reason in REASONS
    assert letter.detail
    assert letter.detail.isprintable(), f"{letter.reason}: {letter.detail!r}"
    assert len(letter.detail) <= DETAIL_CHARACTERS, f"{letter.reason}: a detail of {len(letter.detail)} characters"
    assert letter.events >= 1
    key, value, headers = dead_letter_record(letter, "topic")
    assert key == letter.record.key
    assert value == (letter.record.value if letter.event is None else letter.event)
    assert len(headers) >= 7
    if letter.event is not None:
        record = letter.record
        # Replayed, it is refused for what it was refused for, and repeats nothing.
        alone = Record(0, 0, record.timestamp_ms, record.key, letter.event, record.headers)
        again = decoder.decode([alone])
        assert not len(again.batch)
        assert {dead.reason for dead in again.dead} == {letter.reason}, (letter.reason, letter.detail, again.dead)


def _check_batch(decoded: Decoded, case: Case) -> None:
    batch = decoded.batch
    assert (np.diff(decoded.record_of) >= 0).all()
    assert (batch.offset == decoded.record_of).all()
    if not len(batch):
        return
    texts: Any
    metadata: Any = batch.metadata
    for texts, least, most in (
        (batch.source_system, 1, LIMITS.source_system_bytes),
        (batch.event_id, 1, LIMITS.event_id_bytes),
        (batch.model, 1, LIMITS.model_bytes),
        (batch.content, 0, LIMITS.content_bytes + 100),  # a secret's replacement may be longer than the secret
        (metadata, 2, LIMITS.metadata_bytes + 100),
    ):
        texts.validate(full=True)
        assert len(texts) == len(batch)
        assert texts.null_count == 0
        sizes = [len(text.encode()) for text in texts.to_pylist()]
        assert least <= min(sizes)
        assert max(sizes) <= most
    keys = [case.records[place].key for place in decoded.record_of.tolist()]
    assert [str(text).encode() for text in batch.source_system.to_pylist()] == keys
    for text in set(metadata.to_pylist()):
        value = orjson.loads(text)
        assert type(value) is dict
        assert orjson.dumps(value, option=orjson.OPT_SORT_KEYS) == text.encode()
    vectors = batch.embedding
    assert vectors.shape == (len(batch), LIMITS.dimensions)
    assert np.isfinite(vectors).all()
    assert (vectors.any(axis=1) != batch.delete).all()
    assert (batch.created_at >= 0).all()
    assert (batch.created_at <= batch.appended_at + LIMITS.future_s * 1e6).all()
