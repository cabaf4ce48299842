"""A worker that takes a log in, spills it and kills itself: python -m tests.tiers.spill_kill FOLDER STEP PASSING"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from akasha_stream.storage import StorageSettings
from tests.dying import die_at
from tests.hot.kill import kill_log
from tests.tiers.tiered import Tiered, tiered_settings


async def main() -> None:
    folder, step, passing = sys.argv[1:]
    die_at(step, int(passing))
    async with Tiered(
        tiered_settings(Path(folder) / "killed"), StorageSettings.local(Path(folder) / "objects")
    ) as worker:
        await worker.take_in(kill_log())


if __name__ == "__main__":
    asyncio.run(main())
