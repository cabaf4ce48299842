"""Apache Kafka itself, one node in KRaft mode, without Docker: for tests, and for one machine that wants durable data.

Measured (Kafka 4.3.1, Java 17, 2 cores): the first start formats the storage (1 s), a start takes 3 s, memory 370 MB.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, ClassVar

from akasha_stream.embedded.java import find_java
from akasha_stream.embedded.kafka_config import LOGGING, Node, broker_properties, render
from akasha_stream.embedded.kafka_jars import kafka_jars
from akasha_stream.embedded.server import ServerProcess
from akasha_stream.embedded.wire import kafka_brokers
from akasha_stream.errors import ServerStartError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PROPERTIES = "server.properties"
_LOGGING = "log4j2.properties"


class KafkaServer(ServerProcess):
    """`jars`: the folder with Kafka's jars (its console tools are in there too); `java`: what runs them."""

    name: ClassVar[str] = "kafka"
    start_timeout_s: ClassVar[float] = 60.0
    stop_timeout_s: ClassVar[float] = 20.0
    ports_needed: ClassVar[int] = 2

    def __init__(
        self, java: Path, jars: Path, data_dir: Path | None, *, port: int, heap_mb: int, properties: Mapping[str, str]
    ) -> None:
        super().__init__(data_dir, port)
        self.java = java
        self.jars = jars
        self._heap_mb = heap_mb
        self._properties = dict(properties)
        self._cluster_id = cluster_id()

    @classmethod
    def start(
        cls,
        data_dir: Path | None = None,
        *,
        port: int = 0,
        heap_mb: int = 512,
        properties: Mapping[str, str] | None = None,
    ) -> KafkaServer:
        """Start and wait until it answers. `properties` are added to server.properties.

        The first call on a machine fetches Kafka's jars (see kafka_jars.jars_present).

        Raises:
            ServerStartError: Java or Maven is missing, the data belong to a running broker, or it did not come up.
        """
        java = find_java()
        jars = kafka_jars(java)
        return cls(java, jars, data_dir, port=port, heap_mb=heap_mb, properties=properties or {})._launch()

    @property
    def bootstrap_servers(self) -> str:
        return self.address

    @property
    def classpath(self) -> str:
        return f"{self.jars}/*"

    @property
    def node(self) -> Node:
        # Relative, and Kafka runs in data_dir: log.dirs is a list, and a comma in an absolute path would cut it in two.
        return Node(id=1, port=self._ports[0], controller_port=self._ports[1], log_dir="log")

    def cluster(self) -> list[Node]:
        """All nodes, this one among them."""
        return [self.node]

    def prepare(self) -> None:
        properties = broker_properties(self.node, self.cluster(), self._properties)
        (self.data_dir / _PROPERTIES).write_text(render(properties), encoding="ascii")
        (self.data_dir / _LOGGING).write_text(LOGGING, encoding="ascii")
        # Our own mark, written last: a format that was cut short is done again.
        formatted = self.data_dir / "formatted"
        if not formatted.exists():
            self._format()
            formatted.touch()

    def format_options(self) -> list[str]:
        """Of the storage tool, besides those that every node needs."""
        return []

    def _format(self) -> None:
        command = self._java(heap_mb=128, main="kafka.tools.StorageTool")
        command += ["format", "--ignore-formatted", "-t", self._cluster_id, "-c", _PROPERTIES, *self.format_options()]
        try:
            done = subprocess.run(
                command,
                cwd=self.data_dir,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ServerStartError(f"Kafka's storage tool did not end within 60 s on {self.data_dir}") from error
        if done.returncode != 0:
            raise ServerStartError(
                f"Kafka's storage tool could not format {self.data_dir} (exit code {done.returncode}):\n"
                f"{(done.stdout + done.stderr).strip()[-3000:]}"
            )

    def command(self) -> list[str]:
        return [*self._java(heap_mb=self._heap_mb, main="kafka.Kafka"), _PROPERTIES]

    def environment(self) -> dict[str, str]:
        # Java 17 reads file names in the locale's encoding: without one, a path with an umlaut doesn't exist to it.
        return {**os.environ, "LC_ALL": "C.UTF-8"}

    def _java(self, heap_mb: int, main: str) -> list[str]:
        return [
            str(self.java),
            f"-Xmx{heap_mb}m",
            "-XX:+UseSerialGC",  # two cores: G1's threads would take turns with the worker
            "-XX:TieredStopAtLevel=1",
            "-XX:+ExitOnOutOfMemoryError",
            f"-Dlog4j2.configurationFile={_LOGGING}",
            "-cp",
            self.classpath,
            main,
        ]

    def answers(self) -> bool:
        return kafka_brokers(self.port) > 0


def cluster_id() -> str:
    """A random id as Kafka writes them: 16 bytes, URL-safe base64 without padding, not starting with '-'."""
    while True:
        text = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        if not text.startswith("-"):
            return text
