"""Kafka in a container: for a machine that has Docker, and neither Java nor Maven."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

from akasha_stream.embedded.kafka_config import Node, broker_properties
from akasha_stream.embedded.ports import free_ports
from akasha_stream.embedded.wire import kafka_brokers
from akasha_stream.errors import ServerStartError

IMAGE = "apache/kafka:4.3.1"


class ContainerKafka:
    """A Broker. Its port is the same inside and outside, so that it stays over a restart."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            ServerStartError: testcontainers is not installed, Docker does not answer, or Kafka does not.
        """
        try:
            docker_container: Any = import_module("testcontainers.core.container").DockerContainer
        except ImportError as error:
            raise ServerStartError("testcontainers is not installed") from error
        self._port, controller_port = free_ports(2)
        container = docker_container(IMAGE).with_bind_ports(self._port, self._port)
        for key, value in image_environment(self._port, controller_port).items():
            container = container.with_env(key, value)
        try:
            self._container: Any = container.start()
        except Exception as error:  # docker's and requests' errors have no common root
            raise ServerStartError(f"Docker does not answer: {error}") from error
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 90
        while kafka_brokers(self._port) == 0:
            if time.monotonic() > deadline:
                raise ServerStartError(
                    f"Kafka in a container did not answer within 90 s:\n{self._container.get_logs()}"
                )
            time.sleep(0.2)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def bootstrap_servers(self) -> str:
        return self.address

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def restart(self) -> None:
        self._container.get_wrapped_container().restart()
        self._wait()

    def stop(self) -> None:
        self._container.stop()


def image_environment(port: int, controller_port: int) -> dict[str, str]:
    """The image reads KAFKA_LOG_DIRS as log.dirs, and so on."""
    node = Node(id=1, port=port, controller_port=controller_port, log_dir="/var/lib/kafka/data")
    inside = {"listeners": f"PLAINTEXT://0.0.0.0:{port},CONTROLLER://127.0.0.1:{controller_port}"}
    properties = broker_properties(node, [node], inside)
    return {f"KAFKA_{key.replace('.', '_').upper()}": value for key, value in properties.items()}
