from __future__ import annotations

from typing import Any

import pytest

from akasha_stream.search.planner import Choice, Cost, Costs, Size, plan


def kinds(
    sizes: list[Size], *, index: Any = "auto", costs: Costs | None = None, k: int = 10, ef: int = 128
) -> list[str]:
    return [c.kind for c in plan(sizes, k=k, index=index, exact_rows=4_000, hnsw_ef=ef, costs=costs or Costs())]


def measured(hnsw_ms: float) -> Costs:
    costs = Costs()
    costs.hnsw_query.observe(hnsw_ms * 1e6, 1)
    return costs


def test_few_matching_rows_are_scanned_exactly() -> None:
    assert kinds([Size(100_000, 2_000, True), Size(100_000, 1_999, False)]) == ["exact", "exact"]


def test_many_rows_go_by_codes() -> None:
    assert kinds([Size(100_000, 100_000, True), Size(100_000, 100_000, False)]) == ["codes", "codes"]


def test_a_segment_with_few_matching_rows_among_large_ones_is_scanned_exactly() -> None:
    assert kinds([Size(100_000, 100_000, False), Size(100_000, 15, False)]) == ["codes", "exact"]


def test_measured_cost_decides_between_codes_and_hnsw() -> None:
    large = [Size(3_000_000, 3_000_000, True)]  # 12 ms by codes
    assert kinds(large, costs=measured(2)) == ["hnsw"]
    assert kinds(large, costs=measured(8)) == ["codes"]


def test_hnsw_must_have_recall_for_k() -> None:
    large = [Size(3_000_000, 3_000_000, True)]
    assert kinds(large, costs=measured(1), k=100) == ["codes"]
    assert kinds(large, costs=measured(1), k=100, ef=1_200) == ["hnsw"]


def test_a_filter_makes_hnsw_dearer() -> None:
    assert kinds([Size(3_000_000, 300_000, True)], costs=measured(1)) == ["codes"]


def test_an_unmeasured_index_is_tried_once_where_its_prior_is_near() -> None:
    (choice,) = plan(
        [Size(1_000_000, 1_000_000, True)], k=10, index="auto", exact_rows=4_000, hnsw_ef=128, costs=Costs()
    )
    assert choice == Choice("hnsw", "measuring what its HNSW index costs")


@pytest.mark.parametrize("index", ["codes", "exact"])
def test_a_setting_forces_an_index(index: str) -> None:
    assert kinds([Size(100_000, 100_000, True), Size(10, 10, True)], index=index) == [index, index]


def test_forced_hnsw_falls_back_and_says_so() -> None:
    with_index, without = plan(
        [Size(100, 100, True), Size(100, 100, False)],
        k=10,
        index="hnsw",
        exact_rows=4_000,
        hnsw_ef=128,
        costs=Costs(),
    )
    assert with_index == Choice("hnsw")
    assert without == Choice("codes", "its HNSW index is not built yet")


def test_one_measurement_of_a_waiting_thread_changes_little() -> None:
    cost = Cost(5.0)
    for _ in range(50):
        cost.observe(4_000, 1_000)
    cost.observe(4_000_000, 1_000)
    assert cost.ns == pytest.approx(4.0 + 0.1 * 12.0)
