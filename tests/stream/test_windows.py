"""Rules of the windows, each by an example."""

from __future__ import annotations

import numpy as np
import pytest

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.stream.windows import Outcome, WindowDelta, WindowKey, Windows

SIZE, LATENESS, D = 100, 50, 8


def make(size: int = SIZE, lateness: int = LATENESS) -> Windows:
    return Windows(size, lateness, D, partition=3)


def feed(
    windows: Windows,
    *events: tuple[str, int],
    outcome: Outcome = Outcome.STORED,
    vector: list[float] | None = None,
    commit: bool = True,
    first_offset: int = 0,
) -> WindowDelta:
    n = len(events)
    delta = windows.apply(
        [system for system, _ in events],
        np.array([at for _, at in events], dtype=np.int64),
        np.full(n, outcome, dtype=np.uint8),
        np.tile(np.array(vector or [1, 0, 0, 0, 0, 0, 0, 0], dtype=np.float32), (n, 1)),
        np.arange(first_offset, first_offset + n, dtype=np.int64),
    )
    if commit:
        windows.commit(delta)
    return delta


def test_a_window_closes_when_the_watermark_reaches_its_end_and_the_lateness() -> None:
    windows = make()
    assert feed(windows, ("a", 10), ("a", 99), ("a", 149)).closed == []
    (digest,) = feed(windows, ("a", 150), first_offset=7).closed
    assert (digest.system, digest.window_start, digest.window_end, digest.partition) == ("a", 0, 100, 3)
    assert (digest.counts.stored, digest.first_created_at, digest.last_created_at) == (2, 10, 99)
    assert (digest.first_offset, digest.last_offset) == (0, 1)
    assert list(windows.open_windows()) == [WindowKey("a", 100)]


def test_a_late_event_counts_only_in_the_next_digest_of_its_system() -> None:
    windows = make()
    feed(windows, ("a", 10), ("b", 10), ("a", 160))
    delta = feed(windows, ("a", 20), ("a", 30), ("b", 20))
    assert delta.late == 2
    assert delta.closed == []
    (b,) = feed(windows, ("b", 160)).closed
    assert (b.late, b.counts.stored) == (0, 2)
    first, second = feed(windows, ("a", 250), ("a", 5), ("a", 360), first_offset=50).closed
    assert (first.window_start, first.late) == (100, 2)
    assert (second.window_start, second.late) == (200, 1)


def test_an_event_inside_the_lateness_counts_in_its_window() -> None:
    windows = make()
    feed(windows, ("a", 10), ("a", 149), ("a", 20))
    (digest,) = feed(windows, ("a", 150)).closed
    assert digest.counts.stored == 2


def test_a_slow_clock_neither_closes_nor_delays_the_windows_of_another_system() -> None:
    windows = make()
    feed(windows, ("slow", 10), ("quick", 10_000))
    assert feed(windows, ("slow", 20)).late == 0
    (digest,) = feed(windows, ("quick", 20_000)).closed
    assert digest.system == "quick"


def test_the_windows_of_a_silent_system_stay_open_until_its_next_event() -> None:
    windows = make()
    feed(windows, ("silent", 10))
    feed(windows, *[("other", at) for at in range(0, 10_000, 70)])
    assert WindowKey("silent", 0) in windows.open_windows()
    assert [digest.system for digest in feed(windows, ("silent", 90_000)).closed] == ["silent"]


def test_one_event_closes_several_windows_oldest_first() -> None:
    windows = make(lateness=300)
    feed(windows, ("a", 250), ("a", 150), ("a", 50))
    assert [digest.window_start for digest in feed(windows, ("a", 5_000)).closed] == [0, 100, 200]


def test_every_outcome_is_counted_and_only_accepted_vectors_are_in_the_centroid() -> None:
    windows = make()
    for at, outcome in enumerate(Outcome):
        vector = [1.0, 1, 0, 0, 0, 0, 0, 0] if outcome <= Outcome.UPDATED else [0.0, 0, 0, 0, 0, 0, 0, 9]
        feed(windows, *[("a", at)] * (outcome + 1), outcome=outcome, vector=vector)
    (digest,) = feed(windows, ("a", 150)).closed
    counts = digest.counts
    assert (counts.stored, counts.updated, counts.deleted) == (1, 2, 3)
    assert (counts.duplicates_exact, counts.duplicates_content, counts.duplicates_near) == (4, 5, 6)
    assert (counts.events, digest.vectors) == (21, 3)
    assert digest.centroid is not None
    np.testing.assert_allclose(digest.centroid, [0.5**0.5, 0.5**0.5, 0, 0, 0, 0, 0, 0], atol=1e-6)
    assert digest.coherence == 1.0


def test_a_window_without_vectors_has_no_centroid() -> None:
    windows = make()
    feed(windows, ("a", 1), outcome=Outcome.DUPLICATE_EXACT)
    (digest,) = feed(windows, ("a", 150)).closed
    assert digest.centroid is None
    assert digest.coherence == 0.0


def test_an_enormous_vector_weighs_no_more_than_another() -> None:
    windows = make()
    feed(windows, ("a", 1), vector=[3e38, 0, 0, 0, 0, 0, 0, 0])
    feed(windows, ("a", 1), vector=[0, 1e-42, 0, 0, 0, 0, 0, 0])
    (digest,) = feed(windows, ("a", 150)).closed
    assert digest.centroid is not None
    np.testing.assert_allclose(digest.centroid[:2], [0.5**0.5] * 2, atol=1e-6)
    assert digest.coherence == pytest.approx(0.5**0.5, abs=1e-6)


def test_times_before_1970_fall_in_the_window_below() -> None:
    windows = make()
    feed(windows, ("a", -1))
    assert list(windows.open_windows()) == [WindowKey("a", -100)]


def test_applying_changes_nothing_until_the_commit() -> None:
    windows = make()
    feed(windows, ("a", 10))
    before = windows.snapshot_rows()
    once = feed(windows, ("a", 20), ("a", 400), ("b", 1), commit=False)
    assert windows.snapshot_rows() == before
    again = feed(windows, ("a", 20), ("a", 400), ("b", 1))
    assert (once.windows, once.removed, once.systems, once.closed) == (
        again.windows,
        again.removed,
        again.systems,
        again.closed,
    )
    with pytest.raises(ValueError, match="no longer the current"):
        windows.commit(once)


def test_a_delta_names_exactly_the_rows_that_change() -> None:
    windows = make()
    feed(windows, ("a", 10), ("b", 10))
    delta = feed(windows, ("a", 160), ("c", 10), ("c", 900))
    assert [row[:2] for row in delta.windows] == [("a", 100), ("c", 900)]
    assert delta.removed == [("a", 0)], "c's first window was never persisted"
    assert [tuple(row) for row in delta.systems] == [("a", 160, 0), ("c", 900, 0)]
    assert feed(windows, ("c", 850)).systems == [], "the watermark stays"


def test_an_empty_batch_changes_nothing() -> None:
    delta = feed(make())
    assert (delta.windows, delta.removed, delta.systems, delta.closed) == ([], [], [], [])


def test_codes_and_names_are_the_same_as_names() -> None:
    one, other = make(), make()
    left = feed(one, ("b", 10), ("a", 10), ("b", 500))
    right = other.apply(
        (np.array([7, 2, 7], dtype=np.int32), ["", "", "a", "", "", "", "", "b"]),
        np.array([10, 10, 500], dtype=np.int64),
        np.zeros(3, dtype=np.uint8),
        np.tile(np.array([1, 0, 0, 0, 0, 0, 0, 0], dtype=np.float32), (3, 1)),
        np.arange(3, dtype=np.int64),
    )
    assert sorted(left.windows) == sorted(right.windows)
    assert left.closed == right.closed


def test_another_window_size_closes_the_old_windows_at_the_systems_next_event() -> None:
    windows = make()
    feed(windows, ("a", 110), ("b", 110))
    rows = windows.snapshot_rows()
    resized = Windows.restore(10, 0, D, partition=3, windows=rows.windows, systems=rows.systems)
    delta = feed(resized, ("a", 111), ("a", 105))
    assert [(digest.window_start, digest.window_end) for digest in delta.closed] == [(100, 200)]
    assert delta.late == 1
    assert set(resized.open_windows()) == {WindowKey("a", 110), WindowKey("b", 100)}
    assert feed(resized, ("a", 112)).closed == []


def test_a_resized_window_and_one_of_the_same_start_both_close() -> None:
    windows = make()
    feed(windows, ("a", 100))
    rows = windows.snapshot_rows()
    resized = Windows.restore(10, 0, D, partition=3, windows=rows.windows, systems=rows.systems)
    delta = feed(resized, ("a", 101), ("a", 130))
    assert [(digest.window_start, digest.window_end) for digest in delta.closed] == [(100, 200), (100, 110)]
    assert delta.removed == [("a", 100)]
    assert set(resized.open_windows()) == {WindowKey("a", 130)}


def test_state_of_other_dimensions_is_refused() -> None:
    windows = make()
    feed(windows, ("a", 10))
    rows = windows.snapshot_rows()
    with pytest.raises(SegmentCorrupt):
        Windows.restore(SIZE, LATENESS, 16, partition=3, windows=rows.windows, systems=rows.systems)
    with pytest.raises(SegmentCorrupt, match="without a watermark"):
        Windows.restore(SIZE, LATENESS, D, partition=3, windows=rows.windows, systems=[])


@pytest.mark.parametrize(("size", "lateness"), [(0, 0), (-1, 0), (1, -1)])
def test_sizes_that_make_no_window_are_refused(size: int, lateness: int) -> None:
    with pytest.raises(ValueError, match="size above 0"):
        make(size, lateness)


def test_an_open_window_keeps_no_more_than_its_own_sum() -> None:
    windows = make()
    feed(windows, *((f"system-{number}", 10) for number in range(200)))
    feed(windows, ("system-0", 20))
    assert {window.total.base is None for window in windows.open_windows().values()} == {True}
