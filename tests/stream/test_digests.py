"""Digest records."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.stream.digests import Digest, WindowCounts, from_iso, to_iso


def make(
    system: str = "session-buddy", centroid: list[float] | None = None, start: int = 1_769_853_600_000_000
) -> Digest:
    return Digest(
        system=system,
        window_start=start,
        window_end=start + 3_600_000_000,
        partition=2,
        counts=WindowCounts(5, 4, 3, 2, 1, 6),
        late=7,
        centroid=None if centroid is None else np.array(centroid, dtype=np.float32),
        coherence=0.25,
        first_created_at=start + 1,
        last_created_at=start + 2,
        first_offset=10,
        last_offset=20,
    )


def test_the_key_names_system_and_window() -> None:
    assert make().key() == b"session-buddy|2026-01-31T10:00:00.000000Z"


def test_the_value_is_json_that_says_it_all() -> None:
    assert json.loads(make(centroid=[0.1, 0.2]).value()) == {
        "type": "akasha.digest.v1",
        "source_system": "session-buddy",
        "window_start": "2026-01-31T10:00:00.000000Z",
        "window_end": "2026-01-31T11:00:00.000000Z",
        "partition": 2,
        "events": {
            "stored": 5,
            "updated": 4,
            "deleted": 3,
            "duplicates": {"exact": 2, "content": 1, "near": 6},
            "late": 7,
        },
        "first_created_at": "2026-01-31T10:00:00.000001Z",
        "last_created_at": "2026-01-31T10:00:00.000002Z",
        "first_offset": 10,
        "last_offset": 20,
        "coherence": 0.25,
        "centroid": [0.1, 0.2],
    }


def test_the_headers_are_cloudevents() -> None:
    headers = dict(make().headers())
    assert headers["ce_specversion"] == b"1.0"
    assert headers["ce_id"] == make().key()
    assert headers["ce_type"] == b"akasha.digest.v1"
    assert headers["content-type"] == b"application/json"


@given(
    system=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    centroid=st.none() | st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
    start=st.integers(-(2**60), 2**60),
)
def test_rows_come_back_as_they_went_with_the_same_bytes(system: str, centroid: list[float] | None, start: int) -> None:
    digest = make(system, centroid, start)
    back = Digest.from_row(digest.to_row())
    assert back == digest
    assert hash(back) == hash(digest)
    assert back.value() == digest.value()
    if centroid is not None:
        assert back.centroid is not None
        assert back.centroid.tobytes() == np.array(centroid, dtype=np.float32).tobytes()


def test_digests_differ_where_a_value_does() -> None:
    assert make(centroid=[1.0]) != make(centroid=[math.nextafter(1.0, 0) - 1e-6])
    assert make() != "a digest"


@given(st.integers(-(2**62), 2**62))
def test_times_come_back(timestamp: int) -> None:
    assert from_iso(to_iso(timestamp)) == timestamp


@pytest.mark.parametrize("value", [b"", b"{", b"[]"])
def test_bytes_that_are_no_digest_are_refused(value: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Digest.from_row(("a", 0, value))
