"""VectorEmbeddingStorage through the directory, and through a worker on the embedded broker and on Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from akasha_stream.embedded import Broker, TansuServer
from akasha_stream.settings import Settings
from tests.behaviours.embeddings import StoresEmbeddings
from tests.worker.stage import Stage


class TestThroughTheDirectory(StoresEmbeddings):
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings.load(overrides={"hot.data_dir": str(tmp_path / "data")})


class ThroughAWorker(StoresEmbeddings):
    @pytest.fixture
    async def settings(self, server: Broker, tmp_path: Path) -> AsyncIterator[Settings]:
        stage = await Stage.make(server, tmp_path)
        async with stage.worker():
            # The broker's address is the worker's to say.
            yield Settings.load(overrides={**stage.overrides, "broker.bootstrap_servers": "localhost:1"})


@pytest.mark.long
class TestThroughAWorkerOnTheEmbeddedBroker(ThroughAWorker):
    @pytest.fixture
    def server(self, tansu: TansuServer) -> Broker:
        return tansu


@pytest.mark.kafka
@pytest.mark.slow
class TestThroughAWorkerOnKafka(ThroughAWorker):
    @pytest.fixture
    def server(self, kafka: Broker) -> Broker:
        return kafka
