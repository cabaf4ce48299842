"""The rows that the benchmarks publish, and the recall they compute."""

from __future__ import annotations

import numpy as np
import pytest

from akasha_stream.search.query import Hit, SearchResponse
from benchmarks.data import Corpus, bundles, event_id, load, row_of, system_of
from benchmarks.search import K, recall


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load(seed=3)


def test_real_rows_come_first_and_copies_are_near_them(corpus: Corpus) -> None:
    n = len(corpus.vectors)
    rows = corpus.rows(n - 5, 10)
    assert np.array_equal(rows[:5], corpus.vectors[-5:])
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    cosines = np.sum(rows[5:] * corpus.vectors[:5], axis=1)
    assert np.all((cosines > 0.93) & (cosines < 0.98))


def test_rows_do_not_depend_on_how_they_are_cut(corpus: Corpus) -> None:
    n = len(corpus.vectors)
    whole = corpus.rows(n - 100, 200)
    assert np.array_equal(whole, np.concatenate([corpus.rows(n - 100, 120), corpus.rows(n + 20, 80)]))
    assert np.array_equal(load(seed=3).rows(n, 10), corpus.rows(n, 10))
    assert not np.array_equal(load(seed=4).rows(n, 10), corpus.rows(n, 10))


def test_a_table_makes_one_full_bundle_a_system(corpus: Corpus) -> None:
    table = next(corpus.tables(10_000, 10))
    made = bundles(table)
    assert [(system, events) for system, _, events in made] == [(system_of(i, 10), 64) for i in range(10)]
    assert row_of(event_id(12_345)) == 12_345


def test_every_content_is_different(corpus: Corpus) -> None:
    n = len(corpus.vectors)
    contents = corpus.table(0, 2 * n if n < 1_000 else n, 100)["content"].to_pylist()
    assert len(set(contents)) == len(contents)


def test_recall_counts_what_an_exact_scan_finds(corpus: Corpus) -> None:
    rows = 300
    scores = corpus.queries[:4] @ corpus.rows(0, rows).T
    exact = np.argsort(-scores, axis=1)
    right = [_response(each[:K]) for each in exact]
    assert recall(corpus, rows, right) == 1.0
    half = [_response([*each[: K // 2], *each[-(K - K // 2) :]]) for each in exact]
    assert recall(corpus, rows, half) == 0.5


def _response(rows: object) -> SearchResponse:
    hits = [Hit(source_system="s", event_id=event_id(int(row)), similarity=0) for row in np.asarray(rows)]
    return SearchResponse(hits=hits, complete=True, took_ms=0)
