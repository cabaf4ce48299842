"""Three Kafka brokers, each a controller too, that keep three copies of everything: for tests of what one can't show.

Measured (2 cores, busy): up in 10 s; a node that was killed is back in 4 s.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import AlterPartitionReassignmentsRequest

from akasha_stream.embedded import KafkaServer
from akasha_stream.embedded.java import find_java
from akasha_stream.embedded.kafka import cluster_id
from akasha_stream.embedded.kafka_config import Node
from akasha_stream.embedded.kafka_jars import kafka_jars
from akasha_stream.embedded.ports import free_ports

NODES = 3
HEAP_MB = 384


class ClusterNode(KafkaServer):
    """One of several. It answers only when a majority of them is up."""

    start_timeout_s = 120.0

    def join(self, number: int, ports: list[list[int]], cluster: str) -> Self:
        """Take a place in a cluster; `ports`: two for each node."""
        self._number, self._ports, self._all_ports, self._cluster_id = number, ports[number], ports, cluster
        return self

    @property
    def node(self) -> Node:
        return self.cluster()[self._number]

    def cluster(self) -> list[Node]:
        return [
            Node(id=number + 1, port=port, controller_port=controller, log_dir="log")
            for number, (port, controller) in enumerate(self._all_ports)
        ]

    def launch(self) -> None:
        self._up()


class KafkaCluster:
    """A Broker whose nodes can be killed one by one. Not for several threads at once."""

    def __init__(self) -> None:
        """Start them. Raises ServerStartError."""
        java = find_java()
        jars = kafka_jars(java)
        flat = free_ports(2 * NODES)
        ports = [flat[2 * number : 2 * number + 2] for number in range(NODES)]
        name = cluster_id()
        self.nodes = [
            ClusterNode(java, jars, None, port=0, heap_mb=HEAP_MB, properties={}).join(number, ports, name)
            for number in range(NODES)
        ]
        try:
            with ThreadPoolExecutor(NODES) as threads:
                list(threads.map(ClusterNode.launch, self.nodes))
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        return self.nodes[0].address

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(node.address for node in self.nodes)

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def restart(self) -> None:
        with ThreadPoolExecutor(NODES) as threads:
            list(threads.map(ClusterNode.restart, self.nodes))

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()  # in order, each would wait for the others that are gone
            node.stop()


async def move_leaders(bootstrap_servers: str, topic: str) -> int:
    """Take every partition of a topic off its leader, which stays a replica no longer; the number of partitions.

    With three copies two are left: as many as must be in sync.
    """
    return await _reassign(bootstrap_servers, topic, keep_leader=False)


async def restore_replicas(bootstrap_servers: str, topic: str) -> int:
    """Every partition on every node again; leaders stay."""
    return await _reassign(bootstrap_servers, topic, keep_leader=True)


async def _reassign(bootstrap_servers: str, topic: str, *, keep_leader: bool) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)  # with every node up: it asks any of them
    await admin.start()
    try:
        (described,) = await admin.describe_topics([topic])
        everywhere = list(range(1, NODES + 1))
        targets: list[tuple[int, list[int], dict[int, bytes]]] = []
        for each in described["partitions"]:
            leader = each["leader"]
            others = [node for node in everywhere if node != leader]
            targets.append((each["partition"], [leader, *others] if keep_leader else others, {}))
        request = AlterPartitionReassignmentsRequest(30_000, [(topic, targets, {})], {})
        answer = await admin._send_to_controller(request)
        assert answer.error_code == 0, answer
        return len(targets)
    finally:
        await admin.close()
