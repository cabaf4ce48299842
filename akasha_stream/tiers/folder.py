"""What a worker's data directory keeps of the tiers: footers, bodies, the record of searches. All of it is derived."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from akasha_stream.settings import Settings


def tiers_folder(settings: Settings) -> Path:
    return settings.hot.data_dir / "tiers"


def footers_folder(settings: Settings) -> Path:
    """Of SegmentStore(cache_dir=…)."""
    return tiers_folder(settings) / "footers"
