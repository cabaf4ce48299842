"""What a worker writes back to Kafka: dead letters before the commit of their batch, digests after."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from akasha_stream.connections.kafka import client_options
from akasha_stream.errors import BrokerError
from akasha_stream.events.dead_letters import LEFT_OUT, dead_letter_record
from akasha_stream.events.records import DeadLetter
from akasha_stream.hot.shard import Shard
from akasha_stream.settings import Settings
from akasha_stream.topics.broker import connecting

log = structlog.get_logger(__name__)

PAUSE_S = 1.0
STOP_S = 3.0
KEY_BYTES = 4_096
DIGESTS_AT_ONCE = 256


class Outlet:
    """Both are delivered at least once: a crash between the write and its mark repeats the same bytes.

    Dead letters are acknowledged by Kafka before the batch they came from commits, so none is lost; digests
    follow from what is committed, and wait in the shard until Kafka has them.
    """

    def __init__(self, settings: Settings, shards: Callable[[], list[Shard]]) -> None:
        self._topics = settings.topics
        self._broker = settings.broker
        self._shards = shards
        self._wake = asyncio.Event()
        self._producer = AIOKafkaProducer(
            **client_options(settings.broker, "-outlet"),
            acks="all",
            linger_ms=5,
            # A dead letter carries the original bytes and some headers more than the largest bundle.
            max_request_size=settings.limits.bundle_bytes * 2 + 1_048_576,
        )
        self.digests_sent = 0
        self.dead_letters_sent = 0
        """Both: acknowledged by Kafka."""

    async def start(self) -> None:
        """Raises BrokerError."""
        async with connecting(self._broker):
            await self._producer.start()

    async def stop(self) -> None:
        # What is not acknowledged yet is repeated by the next start; a broker that is away is not waited for.
        with contextlib.suppress(TimeoutError, KafkaError, OSError):
            await asyncio.wait_for(self._producer.stop(), STOP_S)

    async def dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Returns when Kafka has them all. Raises BrokerError."""
        try:
            await asyncio.gather(*(self._dead_letter(letter) for letter in letters))
        except (KafkaError, OSError) as exc:
            raise BrokerError(f"dead letters not written to {self._topics.dead_letters}: {exc!r}") from exc

    async def _dead_letter(self, letter: DeadLetter) -> None:
        topic = self._topics.dead_letters
        key, value, headers = dead_letter_record(letter, self._topics.embeddings)
        if key is None and value is None:
            key = b""  # aiokafka sends no record without both; retrying would stop its partition for good
        try:
            await (await self._producer.send(topic, value=value, key=key, headers=headers))
        except MessageSizeTooLargeError:
            # A foreign topic may take larger messages than ours. Waiting would stop its partition for good.
            record = letter.record
            log.warning(
                "message larger than the dead letters' topic takes: its bytes are only in the log",
                partition=record.partition,
                offset=record.offset,
                bytes=len(value or b""),
            )
            headers.append((LEFT_OUT, str(len(value or b"")).encode()))
            key = key if key is not None and len(key) < KEY_BYTES else b""
            await self._producer.send_and_wait(topic, value=None, key=key, headers=headers)
        self.dead_letters_sent += 1

    def wake(self) -> None:
        """There are digests to send."""
        self._wake.set()

    async def run(self) -> None:
        """Send digests until cancelled. A broker that is away is waited for."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for shard in self._shards():
                try:
                    while await self._digests(shard):
                        pass
                except (KafkaError, OSError) as exc:
                    log.warning("digests not sent, will try again", error=repr(exc))
                    self._wake.set()
                    await asyncio.sleep(PAUSE_S)

    async def _digests(self, shard: Shard) -> bool:
        digests = shard.pending_digests(DIGESTS_AT_ONCE)
        if not digests:
            return False
        sent = [
            await self._producer.send(
                self._topics.digests, value=digest.record_value(), key=digest.key(), headers=digest.headers()
            )
            for digest in digests
        ]
        await asyncio.gather(*sent)
        if not shard.closed:
            await asyncio.to_thread(shard.digests_acknowledged, len(digests))
        self.digests_sent += len(digests)
        return not shard.closed
