from __future__ import annotations

from collections.abc import Sequence

from akasha_stream.partitioner import partition_of
from akasha_stream.search.snapshot import snapshot
from tests.search.memory_store import MemorySegment, MemoryStore, Row

VECTOR = [1.0] * 8


def test_masks_of_partitions_whose_segments_have_one_name_stay_apart() -> None:
    store = MemoryStore(3)
    assert partition_of("a", 3) != partition_of("b", 3)
    store.add([Row("a", "1", VECTOR), Row("b", "1", VECTOR)])
    assert len({s.name for s in store.segments}) == 1
    store.delete("b", "1")
    live = {view.partition: mask.tolist() for view, mask in snapshot(store)}
    assert live == {partition_of("a", 3): [True], partition_of("b", 3): [False]}


class CommitsAfterViews(MemoryStore):
    """Replaces the event between the first taking of the views and whatever follows."""

    def views(self, partitions: Sequence[int] | None = None) -> list[MemorySegment]:
        views = super().views(partitions)
        if len(self.segments) == 1:
            self.add([Row("a", "1", VECTOR, "new")])
        return views


def test_an_event_that_is_replaced_meanwhile_is_in_the_snapshot() -> None:
    store = CommitsAfterViews(1)
    store.add([Row("a", "1", VECTOR, "old")])
    pairs = snapshot(store)
    assert [view.texts([0])[0].content for view, mask in pairs if mask[0]] == ["new"]
