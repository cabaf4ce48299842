"""Real servers on one machine, without Docker: Apache Kafka, Tansu (in memory), Valkey, SeaweedFS (S3).

    with KafkaServer.start(data_dir) as kafka, ValkeyServer.start() as valkey:
        kafka.bootstrap_servers, valkey.url

Each listens on 127.0.0.1 only and dies with the process that started it, even when that is killed with -9.
"""

from __future__ import annotations

from akasha_stream.embedded.java import find_java
from akasha_stream.embedded.kafka import KafkaServer
from akasha_stream.embedded.seaweed import SeaweedServer
from akasha_stream.embedded.server import Broker, Server, ServerProcess
from akasha_stream.embedded.tansu import TansuServer
from akasha_stream.embedded.valkey import ValkeyServer

__all__ = [
    "Broker",
    "KafkaServer",
    "SeaweedServer",
    "Server",
    "ServerProcess",
    "TansuServer",
    "ValkeyServer",
    "find_java",
]
