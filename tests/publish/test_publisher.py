"""EventPublisher on both brokers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from akasha_stream.errors import BrokerError
from akasha_stream.publish import EventPublisher
from tests.publish.behaviour import PublisherBehaviour
from tests.publish.events import settings_for

if TYPE_CHECKING:
    from akasha_stream.embedded import Broker, TansuServer


class TestOnEmbeddedBroker(PublisherBehaviour):
    idempotent = False

    @pytest.fixture
    def broker(self, tansu: TansuServer) -> Broker:
        return tansu


@pytest.mark.kafka
class TestOnKafka(PublisherBehaviour):
    idempotent = True

    @pytest.fixture
    def broker(self, kafka: Broker) -> Broker:
        return kafka


async def test_no_broker_is_a_clear_error() -> None:
    publisher = EventPublisher(settings_for("127.0.0.1:1", "topic"))
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1"):
        await publisher.start()
    await publisher.close()
