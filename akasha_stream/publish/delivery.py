"""Where events ended up in the log, and the freshness tokens made of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Delivery:
    """One acknowledged event: the record it travelled in, and its place in that record's bundle."""

    topic: str
    partition: int
    offset: int
    """Offset of the record. -1 in the one case where the broker only says "I have it already"."""
    index: int
    """Place in the bundle, from 0."""

    @property
    def token(self) -> str:
        """Freshness token: a search with `after=token` sees this event."""
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class TableDelivery:
    """n acknowledged rows of one table, in the order of the table."""

    topic: str
    partition: NDArray[np.int32]
    offset: NDArray[np.int64]
    index: NDArray[np.int32]
    bundles: int

    def __len__(self) -> int:
        return len(self.offset)

    def tops(self) -> dict[int, int]:
        """Highest offset of each partition."""
        return {int(p): int(self.offset[self.partition == p].max()) for p in np.unique(self.partition)}

    @property
    def token(self) -> str:
        return join_token(self.tops())


def join_token(tops: dict[int, int]) -> str:
    """{partition: highest offset} → "0:17,3:5"; "" for nothing."""
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(tops.items()) if offset >= 0)


def merge_tokens(deliveries: Iterable[Delivery]) -> str:
    """One token for many events: the highest offset of each partition, in the order of the partitions."""
    tops: dict[int, int] = {}
    for delivery in deliveries:
        if delivery.offset > tops.get(delivery.partition, -1):
            tops[delivery.partition] = delivery.offset
    return join_token(tops)
