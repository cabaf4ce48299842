"""The two judgements of benchmarks.systems: a worker that leaks, or lets a partition starve, does not hold."""

from __future__ import annotations

import random
from typing import Any

from benchmarks.growth import Watch

MB = 1_000_000


def watched(*, a_row: float = 2_300, a_minute: float = 0.0, base: float = 300 * MB, stuck_s: int = 0) -> Watch:
    """Ten minutes of 1,000 rows a second on two partitions, then five without one."""
    watch, noise, stood = Watch(), random.Random(1), 0
    for second in range(900):
        rows = min(second, 600) * 1_000
        memory = base + rows * a_row + second / 60 * a_minute + noise.uniform(-3, 3) * MB
        if second <= 100 or second > 100 + stuck_s:
            stood = second * 10
        watch.look(second, rows, round(memory), {0: second * 10, 1: stood}, {0: second * 10 + 5, 1: second * 10 + 5})
    return watch


def figures(watch: Watch) -> tuple[Any, Any]:
    return watch.memory(), watch.starvation()


def test_rows_alone_hold() -> None:
    memory, starvation = figures(watched())
    assert (memory["holds"], memory["broken"]) == (True, [])
    assert 2_250 < memory["bytes_per_row"] < 2_350
    assert abs(memory["steady_mb_per_minute"]) < 0.3
    assert memory["steady_s"] == 299
    assert memory["most_mb"] >= memory["at_end_mb"] > 1_600
    assert len(memory["beyond_rows_mb"]) == 5
    assert starvation["holds"]
    assert starvation["lag_p99_records_by_partition"] == [5, 5]
    assert starvation["longest_wait_s_by_partition"] == [0, 0]


def test_growth_with_the_rows_is_told_from_growth_with_time() -> None:
    assert watched(a_row=2_700, base=200 * MB).memory()["broken"] == ["more than 2500 bytes a row"]
    found = watched(a_row=2_000, a_minute=3 * MB).memory()
    assert found["broken"] == ["growth while no row came"]
    assert not found["holds"]
    assert watched(base=450 * MB).memory()["broken"] == ["more than 360 MB beyond the rows"]


def test_a_short_rest_says_nothing_of_growth_with_time() -> None:
    watch = watched(a_minute=3 * MB)
    for column in (watch.at, watch.rows, watch.anonymous):
        del column[640:]
    assert watch.memory()["steady_mb_per_minute"] is None


def test_a_partition_that_waits_while_others_move_is_starved() -> None:
    assert watched(stuck_s=4).starvation()["holds"]
    found = figures(watched(stuck_s=60))[1]
    assert (found["holds"], found["starved_partitions"]) == (False, [1])
    assert found["longest_wait_s"] == found["longest_wait_s_by_partition"][1] == 60
    assert found["lag_p99_records"] > 500
    assert found["lag_p99_records_by_partition"][0] == 5
