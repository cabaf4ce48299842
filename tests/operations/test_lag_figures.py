"""The figures of lag from what was seen, without a broker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.operations.lag import PartitionLag, Reached, Source, Unread, partition_lag, totals

NOW_MS = 1_000_000


def lag(  # noqa: PLR0917
    next_offset: int,
    end: int,
    unread: Unread,
    before: Reached | None = None,
    source: Source = "worker",
    first: int = 0,
) -> PartitionLag:
    return partition_lag(0, first, Reached(10.0, next_offset, end), source, unread, now_ms=NOW_MS, before=before)


def test_events_are_exact_where_all_unread_records_were_looked_into() -> None:
    found = lag(90, 100, Unread(10, 640, NOW_MS - 2_500, 90, 1_000_003))
    assert (found.records_behind, found.events_behind, found.events_exact) == (10, 640, True)
    assert found.bytes_behind == 1_000_003
    assert found.seconds_behind == 2.5


def test_events_are_estimated_from_the_first_records_otherwise() -> None:
    found = lag(0, 1_000, Unread(10, 640, NOW_MS, 0, 1_003))
    assert (found.events_behind, found.bytes_behind, found.events_exact) == (64_000, 100_300, False)


def test_markers_of_transactions_are_nothing_to_wait_for() -> None:
    """Offsets 97 to 99 are markers: there is no record behind the reader."""
    found = lag(97, 100, Unread())
    assert (found.records_behind, found.events_behind, found.seconds_behind) == (0, 0, 0.0)
    # The first record comes at 98.
    assert lag(95, 100, Unread(2, 2, NOW_MS, 98)).records_behind == 2


def test_without_a_reader_all_of_the_log_waits() -> None:
    found = lag(-1, 100, Unread(32, 32, NOW_MS - 1_000, 20), source="none", first=20)
    assert (found.next_offset, found.records_behind, found.lost, found.read_per_s) == (None, 80, 0, None)


def test_what_retention_took_before_it_was_read_is_counted() -> None:
    found = lag(40, 100, Unread(32, 32, NOW_MS, 60), first=60)
    assert (found.lost, found.records_behind) == (20, 40)
    assert lag(0, 100, Unread(32, 32, NOW_MS, 60), first=60).lost == 0, "a new reader has lost nothing"


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (Reached(8.0, 70, 100), 1.0),  # 10 records a second, 10 behind
        (Reached(8.0, 70, 92), pytest.approx(1.667, abs=0.001)),  # 4 a second come in meanwhile
        (Reached(8.0, 90, 100), None),  # it stands still
        (Reached(8.0, 88, 80), None),  # it falls behind
    ],
)
def test_time_to_clear_is_at_the_rate_that_the_backlog_shrinks_by(before: Reached, expected: float | None) -> None:
    assert lag(90, 100, Unread(10, 10, NOW_MS, 90), before).clear_s == expected


def test_nothing_behind_is_clear_now() -> None:
    assert lag(100, 100, Unread(), Reached(8.0, 100, 100)).clear_s == 0.0
    assert lag(100, 100, Unread()).clear_s == 0.0, "also where no rate was measured"


@given(
    next_offset=st.integers(-1, 200),
    end=st.integers(0, 200),
    first=st.integers(0, 200),
    sampled=st.integers(0, 32),
    source=st.sampled_from(["worker", "group", "none"]),
)
def test_no_figure_is_negative(next_offset: int, end: int, first: int, sampled: int, source: Source) -> None:
    unread = Unread(sampled, sampled * 3, NOW_MS + 5, max(next_offset, first)) if sampled else Unread()
    found = lag(next_offset, end, unread, Reached(8.0, 500, 500), source, first)
    assert found.records_behind >= 0
    assert found.events_behind >= 0
    assert found.bytes_behind >= 0
    assert found.seconds_behind >= 0
    assert found.lost >= 0
    assert found.read_per_s is None or found.read_per_s >= 0


def test_totals_know_what_is_not_known() -> None:
    one = lag(90, 100, Unread(10, 640, NOW_MS - 2_500, 90, 7_000), Reached(8.0, 70, 100))
    other = lag(0, 50, Unread(10, 10, NOW_MS - 500, 0, 500))
    found = totals([one, other])
    assert found.bytes_behind == 7_000 + 2_500
    assert (found.records_behind, found.events_behind, found.events_exact) == (60, 690, False)
    assert (found.seconds_behind, found.read_per_s, found.clear_s) == (2.5, 10.0, None)
    assert totals([one]).clear_s == 1.0
