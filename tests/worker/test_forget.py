"""Forgetting a source system where there are no tiers: its rows leave the workers' own files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from akasha_stream.embedded import Broker
from akasha_stream.events.forget import Forget
from akasha_stream.operations.forgotten import await_forgotten
from akasha_stream.publish.forget import publish_forget
from akasha_stream.tiers.forgotten import system_hash
from tests.worker.model import Maker
from tests.worker.stage import Stage, assert_same


@pytest.mark.kafka
async def test_without_tiers_a_forgotten_system_leaves_the_workers_files(kafka: Broker, tmp_path: Path) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=2, hot__seal_rows=150, hot__build_indexes=False)
    maker = Maker(7, systems=3)
    async with stage.worker() as worker:
        for _ in range(3):
            await stage.publish(maker.mixed(300))
        await stage.until_searchable(worker)
        system = next(iter(stage.model.rows()))[0]
        offsets = await publish_forget(stage.settings, Forget(system_hash(system), datetime.now(UTC)))
        assert await await_forgotten(stage.settings, offsets, [worker.url], 60) == []
        files = [path for path in (stage.data / stage.topic).rglob("0*.*") if path.is_file()]
        assert len(files) > 2 * 3
        assert [path.name for path in files if system.encode() in path.read_bytes()] == []
        await worker.stop()
    left = {key: row for key, row in stage.model.rows().items() if key[0] != system}
    assert_same((await stage.stored())[0], left)
