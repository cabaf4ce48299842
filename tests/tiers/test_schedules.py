"""A few of the fault schedules; `python -m tests.tiers.schedules --schedules 200` runs many."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.tiers.schedules import Schedule

if TYPE_CHECKING:
    from akasha_stream.embedded import SeaweedServer


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[] if seed < 2 else [pytest.mark.slow]) for seed in range(6)]
)
async def test_a_store_behind_a_bad_network_loses_and_doubles_nothing(
    seaweedfs: SeaweedServer, tmp_path: Path, seed: int
) -> None:
    await Schedule(seed, seaweedfs, tmp_path).run()
