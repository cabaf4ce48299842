"""The configuration of Kafka brokers in KRaft mode, as plain functions: one node or several on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Node:
    """One process that is broker and controller at once."""

    id: int
    port: int
    controller_port: int
    log_dir: str


def broker_properties(node: Node, cluster: Sequence[Node], extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """server.properties of `node` in `cluster` (which contains it); `extra` wins.

    Raises:
        ValueError: the node is not of the cluster.
    """
    if node not in cluster:
        raise ValueError(f"node {node.id} is not one of the cluster's {len(cluster)}")
    copies = str(min(len(cluster), 3))
    in_sync = str(min(len(cluster), 2))
    properties = {
        "process.roles": "broker,controller",
        "node.id": str(node.id),
        "controller.quorum.voters": ",".join(f"{each.id}@127.0.0.1:{each.controller_port}" for each in cluster),
        "listeners": f"PLAINTEXT://127.0.0.1:{node.port},CONTROLLER://127.0.0.1:{node.controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{node.port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": node.log_dir,
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        # 50 partitions each by default: on two cores their creation is most of the first group join.
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        # 6,000 by default: with less, a killed worker's partitions move sooner, on one machine without risk.
        "group.min.session.timeout.ms": "1000",
        # Topics are applied from topics/*.yml; one that a typing error brings into being has the wrong partition count.
        "auto.create.topics.enable": "false",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "num.recovery.threads.per.data.dir": "2",
        # 128 MB by default, a quarter of this heap.
        "log.cleaner.dedupe.buffer.size": str(16 << 20),
        # A broker that was killed is still registered when it comes back, and the controller lets it in again only when
        # that registration expires: by default a restart after kill -9 takes 11.5 s, with this 4.5 s (2.7 s a first
        # start, 1.9 s after SIGTERM, which signs off; without controlled shutdown it would not).
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
    }
    return {**properties, **(extra or {})}


def render(properties: Mapping[str, str]) -> str:
    """The text of a Java .properties file."""
    return "".join(f"{key}={_escaped(value)}\n" for key, value in properties.items())


def _escaped(value: str) -> str:
    """Printable ASCII as it is; all else as \\uXXXX escapes of UTF-16 units, as Java reads the file as ISO-8859-1."""
    text = value.encode("utf-16-be")
    units = [int.from_bytes(text[at : at + 2], "big") for at in range(0, len(text), 2)]
    plain = [0x20 <= unit < 0x7F and unit != ord("\\") for unit in units]
    if units[:1] == [0x20]:
        plain[0] = False  # white space before a value is skipped
    return "".join(chr(unit) if keep else f"\\u{unit:04x}" for unit, keep in zip(units, plain, strict=True))


# To stdout: the parent gives it a file. Kafka's own chatter (every partition's creation) is left out; its errors,
# and the lines that say what a start is doing, stay.
LOGGING = """\
status = warn
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c{1} %m%n
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = INFO
logger.broker.name = kafka.server.BrokerServer
logger.broker.level = INFO
logger.recovery.name = kafka.log.LogManager
logger.recovery.level = INFO
"""
