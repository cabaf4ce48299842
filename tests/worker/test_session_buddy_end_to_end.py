"""A database made by Session-Buddy's own package: published with the command, stored, found."""

from __future__ import annotations

from pathlib import Path

import pytest

from akasha_stream.embedded import Broker
from tests.publish.session_buddy_make import vector
from tests.publish.test_command import Command
from tests.publish.test_session_buddy import ZONE, make
from tests.worker.stage import Stage


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_session_buddy_database_is_published_and_found(kafka: Broker, tmp_path: Path) -> None:
    database = tmp_path / "reflection.duckdb"
    texts = make(database, "adapter", 0, 10, "duckdb<2")
    stage = await Stage.make(kafka, tmp_path)
    async with stage.worker() as worker:
        done = await Command(kafka, stage.topic, tmp_path).result(
            database, "--timezone", ZONE, "--source-system", "laptop", "--no-embed"
        )
        loud = {name: text for name, text in texts.items() if "silent" not in text}
        assert done["published"] == len(loud)
        stage.token = done["token"]
        for event_id, text in loud.items():
            embedding = vector(text)
            assert embedding is not None
            answer = await worker.search(vector=embedding, k=1, after=done["token"])
            (hit,) = answer["hits"]
            assert (hit["source_system"], hit["event_id"], hit["content"]) == ("laptop", event_id, text)
            assert hit["similarity"] == pytest.approx(1, abs=1e-5)
        await worker.stop()
