"""Runs that share a commit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from akasha_stream.stream import ingest
from akasha_stream.stream.consumer import Run
from akasha_stream.stream.ingest import joined


def _run(first: int, count: int, *, size: int = 10, assignment: int = 1) -> Run:
    records = [SimpleNamespace(offset=first + place, serialized_value_size=size) for place in range(count)]
    return Run("events", 0, cast("Any", tuple(records)), assignment)


def _offsets(runs: list[Run]) -> list[list[int]]:
    return [[record.offset for record in run.records] for run in runs]


def test_runs_that_follow_each_other_become_one_over_gaps_too() -> None:
    assert _offsets(joined([_run(5, 2), _run(7, 1), _run(12, 2)], 5)) == [[5, 6, 7, 12, 13]]


def test_what_may_be_stored_already_stays_alone() -> None:
    assert _offsets(joined([_run(3, 2), _run(5, 1), _run(6, 1)], 5)) == [[3, 4], [5, 6]]


def test_a_run_that_repeats_offsets_or_is_of_another_assignment_stays_alone() -> None:
    assert _offsets(joined([_run(5, 2), _run(6, 2)], 5)) == [[5, 6], [6, 7]]
    assert _offsets(joined([_run(5, 2), _run(7, 1, assignment=2)], 5)) == [[5, 6], [7]]


def test_a_commit_stays_small() -> None:
    half = ingest.JOINED_BYTES // 2
    assert _offsets(joined([_run(offset, 1, size=half) for offset in range(5)], 0)) == [[0, 1], [2, 3], [4]]
    assert joined([], 0) == []
