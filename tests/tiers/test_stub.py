from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.hot.hashes import identity_hash, identity_key
from akasha_stream.tiers.segment_reader import read_whole
from akasha_stream.tiers.stub import Stub, make_stub, open_stub, read_stub, read_stub_footer, stub_bytes, write_stub
from tests.tiers.segments import Change, histories, spilled


def stub_of(changes: Sequence[Change]) -> Stub:
    segment = spilled(changes, 0, 1_000)
    _, changelog = read_whole(segment.data, "segment")
    return make_stub(segment.footer, changelog)


@settings(deadline=None, max_examples=50)
@given(histories())
def test_a_stub_has_every_row_by_position_and_where_it_is(changes: list[Change]) -> None:
    stub = stub_of(changes)
    expected = sorted(changes, key=lambda c: c.position)
    rows = stub.rows.to_pylist()
    assert [(r["position"], r["source_system"], r["event_id"], r["deleted"], r["created_at"]) for r in rows] == [
        (c.position, c.system, c.event_id, c.content is None, c.created_at) for c in expected
    ]
    assert [r["identity_hash"] for r in rows] == [identity_hash(identity_key(c.system, c.event_id)) for c in expected]
    assert [r["code"] for r in rows] == [
        b"\0\0" if c.content is None else np.packbits(c.vector > 0).tobytes() for c in expected
    ]
    _, changelog = read_whole(spilled(changes, 0, 1_000).data, "segment")
    in_segment = changelog["position"].to_pylist()
    assert [in_segment[r["place"]] for r in rows] == [r["position"] for r in rows]


@settings(deadline=None, max_examples=20)
@given(histories())
def test_written_and_read_back(changes: list[Change]) -> None:
    stub = stub_of(changes)
    read = read_stub(stub_bytes(stub), "it")
    assert (read.footer, read.rows) == (stub.footer, stub.rows)


def test_the_footer_is_in_the_first_bytes() -> None:
    data = stub_bytes(stub := stub_of([Change(o, 0, f"system {o}", "1", "x") for o in range(900)]))
    lengths = [0, 8, 100, 2_000, 60_000, len(data)]
    found = [read_stub_footer(data[:length], "it") for length in lengths if length >= 8]
    assert found == [None, None, None, stub.footer, stub.footer]
    for wrong in (b"", b"PAR1 something else"):
        with pytest.raises(SegmentCorrupt, match="the-stub: is no stub"):
            read_stub_footer(wrong, "the-stub")


def test_the_local_file(tmp_path: Path) -> None:
    stub = stub_of([Change(0, 0, "a", "1", "x"), Change(1, 0, "a", "1", None)])
    write_stub(tmp_path / "stub", stub)
    read = open_stub(tmp_path / "stub")
    assert (read.footer, read.rows) == (stub.footer, stub.rows)


@settings(deadline=None)
@given(st.integers(0, 2_000))
def test_a_cut_one_is_refused_by_name(length: int) -> None:
    data = stub_bytes(stub_of([Change(0, 0, "a", "1", "x")]))
    if length < len(data):
        with pytest.raises(SegmentCorrupt, match="the-stub"):
            read_stub(data[:length], "the-stub")
