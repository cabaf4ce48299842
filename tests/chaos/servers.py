"""The servers of a run, kept up from schedule to schedule; each starts when the first one asks for it."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from akasha_stream.embedded import KafkaServer, SeaweedServer, ValkeyServer
from akasha_stream.embedded.server import ServerProcess
from tests.servers.kafka_cluster import KafkaCluster


class Servers:
    def __init__(self) -> None:
        self._stack = ExitStack()
        self._one: KafkaServer | None = None
        self._three: KafkaCluster | None = None
        self._valkey: ValkeyServer | None = None
        self._seaweed: SeaweedServer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def kafka(self, brokers: int) -> tuple[str, list[KafkaServer]]:
        """(bootstrap servers, the nodes). Raises ServerStartError."""
        if brokers == 1:
            if self._one is None:
                self._one = self._stack.enter_context(KafkaServer.start())
            return self._one.bootstrap_servers, [self._one]
        if self._three is None:
            self._three = self._stack.enter_context(KafkaCluster())
        return self._three.bootstrap_servers, list(self._three.nodes)

    def valkey(self) -> ValkeyServer:
        if self._valkey is None:
            self._valkey = self._stack.enter_context(ValkeyServer.start())
        return self._valkey

    def seaweed(self) -> SeaweedServer:
        if self._seaweed is None:
            self._seaweed = self._stack.enter_context(SeaweedServer.start())
        return self._seaweed


def mend(server: ServerProcess) -> None:
    """Running, whatever was done to it. Raises ServerStartError."""
    if server.running:
        server.resume()
    else:
        server.restart()
