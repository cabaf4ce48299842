"""What is encoded is decoded, in both formats, whatever the event."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Literal

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.errors import ValidationError
from akasha_stream.events.bundles import encode_bundle
from akasha_stream.events.check import check_event
from akasha_stream.events.decode import Decoder
from akasha_stream.events.model import Event
from akasha_stream.settings import Limits
from tests.events.conversions import EPOCH, NOW_MS, events_of, record

LIMITS = Limits(dimensions=8)
FORMATS = pytest.mark.parametrize("form", ["arrow", "json"])

name_text = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=30)
free_text = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=60).filter(
    lambda text: not any(ord(letter) < 32 and letter not in "\t\n\r" for letter in text)
)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | free_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(free_text, inner, max_size=3),
    max_leaves=8,
)
metadata = st.dictionaries(free_text, json_values, max_size=4)
vectors = st.lists(st.floats(-1e6, 1e6, width=32), min_size=8, max_size=8).filter(
    lambda vector: sum(number * number for number in vector) > 1e-6
)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
# created_at is in [1970, the record's time]
times = st.builds(
    lambda micros, zone: (EPOCH + timedelta(microseconds=micros)).astimezone(zone),
    st.integers(0, NOW_MS * 1000),
    zones,
)


def upserts(system: str) -> st.SearchStrategy[Event]:
    return st.builds(
        Event,
        event_id=name_text,
        source_system=st.just(system),
        content=free_text,
        embedding=vectors.map(lambda vector: np.array(vector, dtype=np.float32)),
        model=name_text,
        metadata=metadata,
        created_at=times,
    )


def deletes(system: str) -> st.SearchStrategy[Event]:
    return st.builds(Event.delete, st.just(system), name_text, times)


bundles = name_text.flatmap(lambda system: st.lists(upserts(system) | deletes(system), min_size=1, max_size=6))


@FORMATS
@given(events=bundles)
def test_what_was_encoded_is_decoded(form: Literal["arrow", "json"], events: list[Event]) -> None:
    decoded = Decoder(LIMITS, None).decode([record(events, form)])
    assert not decoded.dead
    assert events_of(decoded.batch) == events
    assert decoded.batch.index.tolist() == list(range(len(events)))


@given(events=bundles)
def test_both_formats_decode_to_the_same_batch(events: list[Event]) -> None:
    decoder = Decoder(LIMITS, None)
    arrow = decoder.decode([record(events, "arrow")]).batch
    json = decoder.decode([record(events, "json")]).batch
    for name in ("offset", "index", "appended_at", "created_at", "delete"):
        assert np.array_equal(getattr(arrow, name), getattr(json, name))
    for name in ("source_system", "event_id", "content", "model", "metadata"):
        assert getattr(arrow, name).equals(getattr(json, name)), name
    assert arrow.embedding.tobytes() == json.embedding.tobytes()


@given(bundle=bundles)
def test_metadata_is_canonical(bundle: list[Event]) -> None:
    batch = Decoder(LIMITS, None).decode([record(bundle)]).batch
    for text in batch.metadata.to_pylist():
        assert orjson.dumps(orjson.loads(text or ""), option=orjson.OPT_SORT_KEYS).decode() == text


def test_order_is_that_of_the_log_across_formats() -> None:
    def events(first: int, count: int) -> list[Event]:
        return [Event(f"id-{first + n}", "s", "text", np.ones(8, np.float32)) for n in range(count)]

    forms: list[Literal["arrow", "json"]] = ["arrow", "json", "json", "arrow", "json"]
    records = [
        record(events(number * 10, 3), form, offset=5 + 2 * number, timestamp_ms=2 * NOW_MS)
        for number, form in enumerate(forms)
    ]
    batch = Decoder(LIMITS, None).decode(records).batch
    assert batch.offset.tolist() == [5, 5, 5, 7, 7, 7, 9, 9, 9, 11, 11, 11, 13, 13, 13]
    assert batch.index.tolist() == [0, 1, 2] * 5
    assert batch.event_id.to_pylist() == [f"id-{number * 10 + n}" for number in range(5) for n in range(3)]
    assert batch.appended_at.tolist() == [2 * NOW_MS * 1000] * 15
    assert batch.embedding.flags.c_contiguous


def test_nothing_in_nothing_out() -> None:
    decoded = Decoder(LIMITS, None).decode([])
    assert len(decoded.batch) == 0
    assert decoded.batch.embedding.shape == (0, 8)
    assert decoded.dead == []


@given(events=bundles, spoil=st.sampled_from(["", "id", "nul", "nan", "zero", "long", "deep", "escape", "ahead"]))
def test_check_event_refuses_what_decoding_refuses(events: list[Event], spoil: str) -> None:
    deep: Any = 1
    for _ in range(20):
        deep = [deep]
    changes: dict[str, dict[str, Any]] = {
        "": {},
        "id": {"event_id": "i" * 300},
        "nul": {"content": "a\x00"},
        "nan": {"embedding": np.array([np.nan] * 8, np.float32)},
        "zero": {"embedding": np.zeros(8, np.float32)},
        "long": {"embedding": np.ones(9, np.float32)},
        "deep": {"metadata": {"a": deep}},
        "escape": {"metadata": {"a": "\x07"}},
        "ahead": {"created_at": datetime.now(UTC) + timedelta(days=3)},
    }
    event = events[0]
    fields = {name: getattr(event, name) for name in Event.__slots__}
    event = Event(**{**fields, **changes[spoil]})
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    reason = None
    try:
        check_event(event, LIMITS)
    except ValidationError as error:
        reason = error.reason
    for form in ("arrow", "json"):
        decoded = Decoder(LIMITS, None).decode([record([event], form, timestamp_ms=now_ms)])
        # JSON has no NaN: what was one is a null, and refused for that.
        assert [letter.reason for letter in decoded.dead] == ([reason] if reason else [])


def test_a_bundle_is_of_one_system_and_not_empty() -> None:
    with pytest.raises(ValidationError, match="at least one event"):
        encode_bundle([])
    one, other = Event("1", "a", "x", np.ones(8, np.float32)), Event("1", "b", "x", np.ones(8, np.float32))
    with pytest.raises(ValidationError) as refused:
        encode_bundle([one, other])
    assert refused.value.reason == "key_mismatch"


def test_a_naive_time_is_refused_at_once() -> None:
    with pytest.raises(ValidationError) as refused:
        Event("1", "a", "x", np.ones(8, np.float32), created_at=datetime(2026, 1, 1))
    assert refused.value.reason == "created_at_naive"
