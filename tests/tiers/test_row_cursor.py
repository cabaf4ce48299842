"""Merging row group by row group gives what merging at once gives, with a row group or two of each input in memory."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from akasha_stream.tiers.compact_group import merged_segment
from akasha_stream.tiers.forgotten import Forgotten
from akasha_stream.tiers.merging import Leaving, merge
from akasha_stream.tiers.row_cursor import Input, Piece
from akasha_stream.tiers.segment_reader import read_whole
from akasha_stream.tiers.segment_store import SegmentStore
from tests.tiers.rewriting import fill, local_store, some_changes
from tests.tiers.segments import LOG


@pytest.mark.parametrize("spread", [0, 3, 1_000])
async def test_the_same_as_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spread: int) -> None:
    """`spread`: how far the events' times are from the order of the log."""
    for module in ("parquet_segment", "compact_group"):
        monkeypatch.setattr(f"akasha_stream.tiers.{module}.ROW_GROUP", 4)
    most = 0
    find = Input.find

    async def counted(self: Input, store: SegmentStore, rows: NDArray[np.int64]) -> list[Piece]:
        nonlocal most
        found = await find(self, store, rows)
        most = max(most, len(self.groups))
        return found

    monkeypatch.setattr(Input, "find", counted)
    chance = random.Random(spread)
    changes = [replace(c, created_at=c.offset + chance.randint(0, spread)) for c in some_changes(120)]
    store = local_store(tmp_path / "objects")
    await fill(store, changes, every=40, warm_below=0)
    segments = store.catalog.current(LOG)
    leaving = Leaving(forgotten=Forgotten().with_system("b", {LOG: 50}))
    made, kept = await merged_segment(store, segments, leaving)
    opened, table = read_whole(made.data, "made")
    tables: list[Any] = [await store.read(segment) for segment in segments]
    expected = merge(LOG, tables, leaving)
    assert table.equals(expected)
    assert opened.row_groups == -(-expected.num_rows // 4)
    assert kept.forgotten + kept.superseded + expected.num_rows == 120
    assert most <= 3  # a batch of the output begins in one row group of an input and may end in the next but one
