"""Which rows of a segment's files a control message (events/forget.py) leaves nothing of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from akasha_stream.hot.position import pack
from akasha_stream.hot.schema import SegmentName
from akasha_stream.hot.segment_tables import Forgets
from akasha_stream.tiers.forgotten import system_hash


def forgets_after(segment: SegmentName, forgets: Sequence[Forgets]) -> dict[str, int]:
    """By SHA-256 of the name: the position before which the rows of a system are forgotten, where a segment may have
    some."""
    begins = pack(segment.epoch, segment.start, 0)
    before: dict[str, int] = {}
    for each in forgets:
        if each.position > begins:
            before[each.system_sha256] = max(each.position, before.get(each.system_sha256, 0))
    return before


def forgotten_of(names: Iterable[str], forgets: Sequence[Forgets], segment: SegmentName) -> dict[str, int]:
    """Of these source systems those that a segment may have forgotten rows of → the position these lie before."""
    before = forgets_after(segment, forgets)
    return {name: before[hashed] for name in names if (hashed := system_hash(name)) in before}


def kept_rows(table: pa.Table, forgotten: Mapping[str, int]) -> NDArray[np.bool_]:
    """(n,) whether a row (schema.row_schema) stays."""
    keep = np.ones(table.num_rows, np.bool_)
    if table.num_rows:
        names = table["source_system"].combine_chunks().dictionary_encode()
        before = np.array([forgotten.get(name.as_py(), -1) for name in names.dictionary], np.int64)
        keep = table["position"].to_numpy() >= before[names.indices.to_numpy()]
    return keep
