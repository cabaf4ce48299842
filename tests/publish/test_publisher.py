"""EventPublisher on both brokers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from akasha_stream.errors import BrokerError
from akasha_stream.publish import EventPublisher
from tests.publish.behaviour import PublisherBehaviour
from tests.publish.events import settings_for

if TYPE_CHECKING:
    from akasha_stream.embedded import Broker, TansuServer


async def test_a_broker_without_idempotent_producers_is_said_in_words_unless_it_is_ours(
    tansu: TansuServer, tansu_topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture_logs() as lines:
        async with EventPublisher(settings_for(tansu.bootstrap_servers, tansu_topic)):
            pass
        monkeypatch.setattr("akasha_stream.publish.connection.CLUSTER_ID", "another")
        async with EventPublisher(settings_for(tansu.bootstrap_servers, tansu_topic)):
            pass
    said = [line for line in lines if line["event"] == "the broker gives no idempotent producer"]
    assert [line["log_level"] for line in said] == ["debug", "warning"]
    assert said[1]["reason"] == "it does not say why"


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
