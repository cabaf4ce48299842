from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from akasha_stream.demo.figures import Figures, percentile
from akasha_stream.demo.sample import DIMENSIONS, SAMPLE, events, sample, vectors
from akasha_stream.publish.tables import bad_rows, to_wire
from akasha_stream.settings import Limits

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


def test_the_sample_is_small_and_holds_real_unit_vectors() -> None:
    table = sample(now=NOW)
    assert SAMPLE.stat().st_size < 3_000_000
    assert len(table) == 2_400
    assert np.allclose(np.linalg.norm(vectors(table), axis=1), 1.0, atol=2e-3)
    assert bad_rows(to_wire(table, DIMENSIONS), Limits()) == []


def test_no_system_has_a_text_twice() -> None:
    table = sample()
    texts = [
        (system, " ".join(str(text).split()))
        for system, text in zip(table["source_system"].to_pylist(), table["content"].to_pylist(), strict=True)
    ]
    assert len(set(texts)) == len(texts)
    assert len(set(table["event_id"].to_pylist())) == len(table)


def test_times_are_of_the_last_three_hours_in_order() -> None:
    times: list[Any] = sample(now=NOW)["created_at"].to_pylist()
    assert times == sorted(times)
    assert times[0] == NOW - timedelta(hours=3)
    assert times[-1] < NOW


def test_more_than_the_sample_are_copies_of_other_systems() -> None:
    table = sample(5_000)
    identities = set(zip(table["source_system"].to_pylist(), table["event_id"].to_pylist(), strict=True))
    assert len(table) == len(identities) == 5_000
    assert str(table["source_system"].to_pylist()[4_900]).endswith("-copy-3")


def test_rows_as_events() -> None:
    table = sample(3)
    first = events(table)[0]
    assert first.event_id == table["event_id"][0].as_py()
    assert first.created_at == table["created_at"][0].as_py()
    assert set(first.metadata) == {"package", "section"}
    assert np.array_equal(first.embedding, vectors(table)[0])


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile([5.0, 1.0, 3.0], 50) == 3.0
    assert percentile(list(range(1, 101)), 99) == 99.0


def test_complete_only_when_every_count_is_right() -> None:
    right = Figures(published=12, stored=9, duplicates=3, dead_letters=1, sent_again=2, same_text=1, malformed=1)
    assert right.complete
    for name in ("missing", "published", "stored", "duplicates", "dead_letters"):
        wrong = Figures(published=12, stored=9, duplicates=3, dead_letters=1, sent_again=2, same_text=1, malformed=1)
        setattr(wrong, name, getattr(wrong, name) + 1)
        assert not wrong.complete, name
