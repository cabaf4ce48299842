"""Runs that share a commit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from akasha_stream.stream import ingest
from akasha_stream.stream.consumer import Run
from akasha_stream.stream.ingest import Ingest, joined


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


class _Stage(Ingest):
    """Says what it would decode and commit together: the partition of each run."""

    def __init__(self) -> None:
        nothing = cast("Any", None)
        super().__init__(nothing, nothing, nothing, on_applied=nothing, on_replaced=nothing, retry_max_s=1.0)
        self.groups: list[list[int]] = []
        self.lose: set[int] = set()

    def _decode(self, shares: Any, runs: Any) -> Any:
        self.groups.append([run.records[0].offset for run in runs])
        return list(runs)

    async def _store_parts(self, shares: Any, parts: Any) -> Any:
        return [share for share, run in zip(shares, parts, strict=True) if run.records[0].offset in self.lose]


async def _groups(stage: _Stage, *sizes: list[int]) -> list[list[int]]:
    """Of partitions with runs of these sizes; a run is named by ten times its partition and its number."""
    shares = [
        SimpleNamespace(runs=[_run(10 * partition + number, 1, size=size) for number, size in enumerate(each)])
        for partition, each in enumerate(sizes)
    ]
    try:
        await stage._rounds(cast("Any", shares))
    finally:
        stage.close()
    return stage.groups


async def test_what_is_small_is_taken_in_together_and_a_backlog_one_partition_after_the_other() -> None:
    all_of_it = ingest.JOINED_BYTES
    assert await _groups(_Stage(), [10], [20], [30]) == [[0, 10, 20]]
    assert await _groups(_Stage(), [all_of_it, all_of_it], [all_of_it], [5, all_of_it]) == [[0], [10], [20], [1], [21]]
    assert await _groups(_Stage(), [all_of_it // 2], [all_of_it // 2], [2 * all_of_it], [1]) == [[0, 10], [20], [30]]
    assert await _groups(_Stage()) == []


async def test_of_a_lost_shard_nothing_more_is_decoded() -> None:
    stage = _Stage()
    stage.lose = {0}
    assert await _groups(stage, [10, 10, 10], [10, 10]) == [[0, 10], [11]]
