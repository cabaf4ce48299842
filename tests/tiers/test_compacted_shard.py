"""A shard whose spilled segments are compacted: opened again, or by a new owner, it is the same shard."""

from __future__ import annotations

from pathlib import Path

import pytest

from akasha_stream.settings import Settings
from akasha_stream.storage import StorageSettings, StorageTiers
from akasha_stream.tiers.compact import compact_logs
from akasha_stream.tiers.segment_store import SegmentStore
from tests.hot.kill import kill_log
from tests.hot.log import counters
from tests.tiers.rewriting import settings_for
from tests.tiers.test_spill import expected, tiles
from tests.tiers.tiered import LOG, Tiered, positions, tiered_settings


@pytest.mark.parametrize(
    "settings", [settings_for(), settings_for(masked_share=1e-6)], ids=["sizes", "every masked row"]
)
async def test_compacted_beside_a_worker_it_is_the_same_shard(tmp_path: Path, settings: Settings) -> None:
    log = kill_log()
    storage = StorageSettings.local(tmp_path / "objects")
    half = len(log) // 2
    async with Tiered(tiered_settings(tmp_path / "a"), storage) as worker:
        for low in range(0, half, 5):
            log.apply(worker.shard, low, min(low + 5, half))
            await worker.spill()
        await compacted(storage, settings)
        for low in range(half, len(log), 5):  # the worker, which knows nothing of it, goes on
            log.apply(worker.shard, low, low + 5)
            await worker.spill()
        assert positions(worker.shard) == expected(log)
        before = len(worker.ranges())
        await compacted(storage, settings)
        await worker.tiering.segments.load()
        assert len(worker.ranges()) < before
        await worker.reopen()
        assert positions(worker.shard) == expected(log)
        assert log.apply(worker.shard) == []
        state = counters(worker.shard)
        await tiles(worker)
    async with Tiered(tiered_settings(tmp_path / "b"), storage) as other:
        log.apply(other.shard)
        assert positions(other.shard) == expected(log)
        assert counters(other.shard) == state


async def compacted(storage: StorageSettings, settings: Settings) -> None:
    """As a command does it."""
    async with StorageTiers(storage) as tiers:
        report = await compact_logs(SegmentStore(tiers), [LOG], dry_run=False, settings=settings)
    assert report.problems == []
    assert report.groups
    assert not [group for group in report.groups if group.why]
