"""Moves a segment, cleans up, and kills itself on the way: python -m tests.tiers.move_and_die ROOT STEP"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from akasha_stream.storage import StorageTiers
from akasha_stream.tiers.clean import clean
from akasha_stream.tiers.migrate import move
from akasha_stream.tiers.segment_store import SegmentStore
from tests.dying import die_at
from tests.tiers.places import on_folders
from tests.tiers.test_migrate import FIRST


async def main(root: Path) -> None:
    async with StorageTiers(on_folders(root)) as tiers:
        store = SegmentStore(tiers)
        await store.load()
        segment = store.catalog.segments[0] if store.catalog.segments else await store.put(FIRST)
        if len(store.catalog) < 2:
            await move(store, segment, "warm")
        await clean(store, grace_s=0, now=time.time() + 10)


if __name__ == "__main__":
    die_at(sys.argv[2])
    asyncio.run(main(Path(sys.argv[1])))
