"""A consistent picture of all segments while the ingest thread goes on, without stopping it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from akasha_stream.search.segment import HotStore, SegmentView

_ROUNDS = 8


def snapshot(store: HotStore, partitions: Sequence[int] | None = None) -> list[tuple[SegmentView, NDArray[np.bool_]]]:
    """Views of the named partitions (None: of all), and copies of their live masks that are older than the views.

    A commit makes new rows visible and then masks the rows they replace. With masks older than the
    views, whatever is masked has its replacement in the views, so no event is missing; an event
    replaced in between is there twice for this search, which merging settles (merge.py). The other
    way round, an event that was replaced in between would be found in neither version.

    So views are taken until a round shows no rows whose masks have not been read. Only rows that came
    in the last of all rounds, and were replaced within the microseconds until it ended, could be missed.
    """
    masks: dict[tuple[int, str], NDArray[np.bool_]] = {}  # names are unique in a partition only
    for _ in range(_ROUNDS):
        views = store.views(partitions)
        complete = True
        for view in views:
            key = view.partition, view.name
            mask = masks.get(key)
            if mask is None:
                masks[key] = view.live[: view.rows].copy()
            elif len(mask) < view.rows:
                masks[key] = np.concatenate([mask, view.live[len(mask) : view.rows]])
            else:
                continue
            complete = False
        if complete:
            break
    return [(view, masks[view.partition, view.name][: view.rows]) for view in views]
