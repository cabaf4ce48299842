"""The broker and the Valkey of one machine, started side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from akasha_stream.embedded.ports import can_bind

if TYPE_CHECKING:
    from akasha_stream.embedded.server import ServerProcess
    from akasha_stream.embedded.valkey import ValkeyServer

type Kind = Literal["embedded", "kafka"]

KAFKA_PORT = 9092
VALKEY_PORT = 6379
TANSU_FETCH_WAIT_MS = 10
"""Tansu holds an empty fetch for all of the wait, records or not."""


@dataclass(frozen=True, slots=True)
class Servers:
    kind: Kind
    bootstrap_servers: str
    redis_url: str
    data_dir: Path | None
    """What survives them; None: nothing does."""
    processes: tuple[ServerProcess, ...] = ()

    @property
    def overrides(self) -> dict[str, object]:
        """The settings of whoever works with them, by dotted key."""
        found: dict[str, object] = {
            "broker.bootstrap_servers": self.bootstrap_servers,
            "redis.enabled": True,
            "redis.url": self.redis_url,
        }
        if self.kind == "embedded":
            found["ingest.fetch_wait_ms"] = TANSU_FETCH_WAIT_MS
        return found


@asynccontextmanager
async def servers(kind: Kind, data_dir: Path | None = None, *, usual_ports: bool = False) -> AsyncIterator[Servers]:
    """Run a broker and Valkey until the block ends.

    `embedded` is Tansu, in memory whatever `data_dir` says; `kafka` is Apache Kafka, which keeps its log in
    `data_dir`, as Valkey does its tables. `usual_ports`: 9092 and 6379 where they are free, so that other commands
    find the servers without options; any free ports otherwise.

    Raises ServerStartError, with nothing left running.
    """
    from akasha_stream.embedded.valkey import ValkeyServer

    kafka_port = _usual(KAFKA_PORT) if usual_ports else 0
    valkey_port = _usual(VALKEY_PORT) if usual_ports else 0
    durable = data_dir if kind == "kafka" else None

    def start_broker() -> ServerProcess:
        if kind == "kafka":
            from akasha_stream.embedded.kafka import KafkaServer

            return KafkaServer.start(None if durable is None else durable / "kafka", port=kafka_port)
        from akasha_stream.embedded.tansu import TansuServer

        return TansuServer.start(port=kafka_port)

    def start_valkey() -> ValkeyServer:
        folder = None if durable is None else durable / "valkey"
        return ValkeyServer.start(folder, port=valkey_port, persist=folder is not None)

    async with AsyncExitStack() as stack:
        valkey = await started(stack, start_valkey)
        broker = await started(stack, start_broker)
        yield Servers(kind, broker.address, valkey.url, durable, (broker, valkey))


def _usual(port: int) -> int:
    return port if can_bind(port) else 0


async def started[S: ServerProcess](stack: AsyncExitStack, start: Callable[[], S]) -> S:
    """Start in a thread; when cancelled meanwhile, stop what comes up all the same."""
    starting = asyncio.ensure_future(asyncio.to_thread(start))
    try:
        server = await asyncio.shield(starting)
    except asyncio.CancelledError:
        server = await starting
        await asyncio.to_thread(server.stop)
        raise
    stack.push_async_callback(asyncio.to_thread, server.stop)
    return server
