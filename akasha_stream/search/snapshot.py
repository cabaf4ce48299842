"""A consistent picture of all segments while the ingest thread goes on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from akasha_stream.search.segment import HotStore, SegmentView

_TRIES = 4


def snapshot(store: HotStore, partitions: Sequence[int]) -> list[tuple[SegmentView, NDArray[np.bool_]]]:
    """Views with copies of their live masks, taken between two commits.

    A commit makes new rows visible and then masks the rows they replace. When one falls between the
    taking of the views and the copying of a mask, the old row is masked and the new one not in the
    view: the event would be missing. So views are taken again afterwards, and when they have grown,
    everything is taken again. Under commits without a pause the last try stands; `masked_since`
    catches what went wrong with it.
    """
    views = store.views(partitions)
    for _ in range(_TRIES):
        pairs = [(view, view.live[: view.rows].copy()) for view in views]
        again = store.views(partitions)
        if [(v.name, v.rows) for v in again] == [(v.name, v.rows) for v in views]:
            break
        views = again
    return pairs
