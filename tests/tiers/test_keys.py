from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.incarnation import Incarnation
from akasha_stream.storage.paths import check_path
from akasha_stream.tiers.keys import LogId, SegmentKey, is_state, state_path

_NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)
_IDS = st.none() | _NAMES
_LOGS = st.builds(LogId, _NAMES, st.builds(Incarnation, _IDS, _IDS), st.integers(0, 10_000))
_RANGES = st.tuples(st.integers(0, 2**40 - 1), st.integers(0, 2**40 - 1)).map(lambda r: (min(r), max(r) + 1))
_GENERATIONS = st.just(0) | st.integers(0, 10**9 - 1)
_KEYS = st.builds(lambda log, r, generation: SegmentKey(log, r[0], r[1], generation), _LOGS, _RANGES, _GENERATIONS)
_PREFIXES = st.sampled_from(["", "akasha", "a/b/c", "akasha/"])


@given(_KEYS, _PREFIXES)
def test_a_path_says_which_segment_it_is_and_every_provider_takes_it(key: SegmentKey, prefix: str) -> None:
    path = key.path(prefix)
    check_path(path)
    assert SegmentKey.parse(path, prefix) == key
    assert path.startswith(key.log.folder(prefix))
    stub = key.stub_path(prefix)
    check_path(stub)
    assert (SegmentKey.parse_stub(stub, prefix), SegmentKey.parse(stub, prefix)) == (key, None)
    assert SegmentKey.parse_stub(path, prefix) is None
    state = state_path(key.log, key.end, prefix)
    assert is_state(state)
    assert not is_state(path)
    assert SegmentKey.parse(state, prefix) is None


@given(_KEYS, _KEYS)
def test_two_segments_have_two_paths(one: SegmentKey, other: SegmentKey) -> None:
    assert (one == other) == (one.path() == other.path())


def test_a_path_reads_well() -> None:
    key = SegmentKey(LogId("akasha.embeddings.v1", Incarnation("5L6g3n", None), 7), 0, 1200)
    assert key.path("spilled") == (
        "spilled/akasha.embeddings.v1/5L6g3n.~/7/00000000000000000000-00000000000000001200.parquet"
    )
    assert SegmentKey(key.log, 0, 1200, 3).path().endswith("/00000000000000000000-00000000000000001200.g3.parquet")


def test_paths_sort_in_log_order() -> None:
    log = LogId("t", Incarnation(), 0)
    paths = [SegmentKey(log, start, start + 1).path() for start in (0, 9, 10, 99, 10**12)]
    assert paths == sorted(paths)


GOOD = "t/c.i/0/00000000000000000000-00000000000000000001.parquet"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "x/" + GOOD,
        GOOD + ".tmp",
        GOOD.replace("t/", "~74/", 1),  # an escape that escape() never makes
        GOOD.replace("t/", "~FF/", 1),
        GOOD.replace("/0/", "/00/"),
        GOOD.replace("/0/", "/٣/"),
        GOOD.replace("c.i", "c"),
        GOOD.replace("c.i", "c."),
        "t/c.i/0/00000000000000000001-00000000000000000001.parquet",
        "t/c.i/0/0-1.parquet",
    ],
)
def test_other_objects_are_no_segments(path: str) -> None:
    assert SegmentKey.parse(GOOD) is not None
    assert SegmentKey.parse(path) is None


def test_empty_names_are_refused() -> None:
    with pytest.raises(ValueError, match="not empty"):
        LogId("t", Incarnation("", None), 0)
