"""Published events are found by a search: on the embedded broker, and on Kafka."""

from __future__ import annotations

import pytest

from akasha_stream.embedded import Broker, TansuServer
from tests.worker.found import PublishedEventsAreFound


class TestOnTheEmbeddedBroker(PublishedEventsAreFound):
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tansu: TansuServer) -> Broker:
        return tansu


@pytest.mark.kafka
@pytest.mark.slow
class TestOnKafka(PublishedEventsAreFound):
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, kafka: Broker) -> Broker:
        return kafka
