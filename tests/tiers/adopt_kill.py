"""A worker that takes a shard over and kills itself: python -m tests.tiers.adopt_kill FOLDER STEP PASSING"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from akasha_stream.storage import StorageSettings
from tests.dying import die_at
from tests.tiers.tiered import Tiered, tiered_settings


async def main() -> None:
    folder, step, passing = sys.argv[1:]
    die_at(step, int(passing))
    async with Tiered(tiered_settings(Path(folder) / "killed"), StorageSettings.local(Path(folder) / "objects")):
        pass


if __name__ == "__main__":
    asyncio.run(main())
