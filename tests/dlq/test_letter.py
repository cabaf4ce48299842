"""Letters that were written are read as what they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.dlq.ledger import Choice
from akasha_stream.dlq.letter import FOREIGN, MARK, MARK_TO, Letter, Mark, Place, read
from akasha_stream.errors import UsageError
from akasha_stream.events.dead_letters import PREFIX, dead_letter_record
from akasha_stream.events.reasons import REASONS
from akasha_stream.events.records import DeadLetter, Record

HEADERS = st.lists(
    st.tuples(st.text(max_size=20).filter(lambda name: not name.startswith("akasha-")), st.binary(max_size=20)),
    max_size=5,
)


@given(
    reason=st.sampled_from(sorted(REASONS)),
    detail=st.text(max_size=100),
    key=st.none() | st.binary(max_size=20),
    value=st.none() | st.binary(max_size=100),
    headers=HEADERS,
    partition=st.integers(0, 1_000),
    offset=st.integers(0, 2**40),
    index=st.none() | st.integers(0, 65_535),
)
def test_a_letter_is_read_as_it_was_written(  # noqa: PLR0917
    reason: str,
    detail: str,
    key: bytes | None,
    value: bytes | None,
    headers: list[tuple[str, bytes]],
    partition: int,
    offset: int,
    index: int | None,
) -> None:
    record = Record(partition, offset, 1_700_000_000_123, key, value, headers)
    written = dead_letter_record(DeadLetter(reason, detail, record, index, events=3), "origin")
    found = read(Record(0, 5, 1_700_000_001_000, *written))
    assert isinstance(found, Letter)
    assert (found.place, found.reason, found.detail) == (Place(0, 5), reason, detail)
    assert (found.origin_topic, found.origin_partition, found.origin_offset) == ("origin", partition, offset)
    assert (found.origin_timestamp_ms, found.index, found.events) == (1_700_000_000_123, index, 3)
    assert (found.key, found.value, list(found.headers)) == (key, value, headers)


@given(
    st.lists(
        st.tuples(
            st.text(max_size=10).map(PREFIX.__add__) | st.sampled_from(["akasha-dlq-offset", MARK]),
            st.binary(max_size=8),
        ),
        max_size=6,
    )
)
def test_no_header_breaks_the_reading(headers: list[tuple[str, bytes]]) -> None:
    assert isinstance(read(Record(0, 5, 0, None, b"x", headers)), Letter | Mark)


def test_a_foreign_record_is_a_letter_of_no_reason() -> None:
    found = read(Record(1, 2, 3, b"k", b"v"))
    assert isinstance(found, Letter)
    assert (found.reason, found.origin, found.size) == (FOREIGN, "-", 1)


def test_a_mark_names_its_letter() -> None:
    assert read(Record(1, 9, 3, None, None, [(MARK, b"1:2"), (MARK_TO, b"t/0:8")])) == Mark(Place(1, 2), "t/0:8", 3)


def test_places() -> None:
    assert Place.parse("3:17") == Place(3, 17)
    assert Place.parse("17") == Place(0, 17)
    for text in ("", "x", "1:2:3", "-1", "1:"):
        with pytest.raises(UsageError, match="dlq list"):
            Place.parse(text)


def test_a_choice_is_all_of_its_conditions() -> None:
    record = Record(3, 17, 1_000, b"laptop", b"bytes")
    letter = read(Record(0, 5, 5_000, *dead_letter_record(DeadLetter("json_invalid", "", record), "t")))
    for choice in (
        Choice(),
        Choice(reasons=frozenset({"json_invalid"}), systems=frozenset({"laptop"}), since_ms=5_000, until_ms=5_001),
        Choice(origin_partition=3, origin_offset=17),
        Choice(places=frozenset({Place(0, 5)})),
    ):
        assert letter in choice
    for choice in (
        Choice(reasons=frozenset({"null_body"})),
        Choice(systems=frozenset({"desk"})),
        Choice(since_ms=5_001),
        Choice(until_ms=5_000),
        Choice(origin_partition=2),
        Choice(origin_partition=3, origin_offset=18),
        Choice(places=frozenset({Place(0, 6)})),
    ):
        assert letter not in choice
