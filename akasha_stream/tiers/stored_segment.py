"""A segment as the catalog knows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from akasha_stream.storage.settings import TIERS, TierName
from akasha_stream.tiers.footer import SegmentFooter
from akasha_stream.tiers.keys import SegmentKey

NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """A segment and the object that holds it. `size` in bytes; `etag` and `storage_class` as the store gave them.

    `modified`: when the object was written, UTC.
    """

    path: str
    size: int
    etag: str
    key: SegmentKey
    footer: SegmentFooter
    tier: TierName = "hot"
    storage_class: str = ""
    modified: datetime = NEVER

    @property
    def place(self) -> tuple[TierName, str]:
        """Tier and path: unique over all tiers."""
        return self.tier, self.path

    @property
    def tier_rank(self) -> int:
        """0 for hot, 2 for cold."""
        return TIERS.index(self.tier)


def unlocated(footer: SegmentFooter) -> StoredSegment:
    """A segment that is known by its footer alone, until the catalog tells where its object is."""
    return StoredSegment(footer.key.path(), 0, "", footer.key, footer)
