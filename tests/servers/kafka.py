"""Apache Kafka for tests: started from its jars; in a container where Java or Maven is missing and Docker answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from akasha_stream.embedded import KafkaServer
from akasha_stream.errors import ServerStartError
from tests.servers.availability import unavailable
from tests.servers.container import ContainerKafka

if TYPE_CHECKING:
    from collections.abc import Iterator

    from akasha_stream.embedded import Broker


def start_kafka() -> Broker:
    try:
        return KafkaServer.start()
    except ServerStartError as missing:
        try:
            return ContainerKafka()
        except ServerStartError as error:
            unavailable(f"no Apache Kafka: {missing}; {error}")


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    """Apache Kafka, one for the whole run. Tests that use it carry the marker `kafka`."""
    server = start_kafka()
    yield server
    server.stop()


@pytest.fixture
def kafka_restartable() -> Iterator[Broker]:
    """A Kafka of one's own, to be killed and restarted (2.5 s to start, 4.7 s to restart after a kill)."""
    server = start_kafka()
    yield server
    server.stop()
