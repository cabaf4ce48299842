"""The Kafka producer under a publisher: how it starts, and how it is replaced."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    KafkaError,
    UnknownError,
    UnsupportedVersionError,
)

from akasha_stream.connections.kafka import client_options, or_hidden, why_denied
from akasha_stream.embedded.tansu import CLUSTER_ID
from akasha_stream.errors import BrokerError, SettingsError
from akasha_stream.incarnation import Incarnation
from akasha_stream.settings import Settings
from akasha_stream.topics.incarnation import incarnation_through

log = structlog.get_logger(__name__)

# What a broker without idempotent producers answers to InitProducerId: Kafka before 0.11 does not know
# the request, Tansu 0.6 knows it and answers UNKNOWN_SERVER_ERROR, and a Kafka with ACLs may refuse it.
NO_IDEMPOTENCE: tuple[type[Exception], ...] = (
    IncompatibleBrokerVersion,
    UnsupportedVersionError,
    ClusterAuthorizationFailedError,
    UnknownError,
    NotImplementedError,
)
_REASONS: dict[type[Exception], str] = {
    ClusterAuthorizationFailedError: "its ACLs refuse IdempotentWrite to this user",
    UnknownError: "it does not say why",
    **dict.fromkeys((IncompatibleBrokerVersion, UnsupportedVersionError, NotImplementedError), "it is too old"),
}
STOP_S = 2.0
"""How long an abandoned producer may take to end its last request."""
TOPIC_S = 2.0
"""How long a topic that was created just now may take to appear in the metadata."""


class Connection:
    """Holds the current producer.

    A producer is replaced, not repaired, after a failed record batch: an idempotent one has counted the
    sequence numbers of the records that never arrived, so that the broker would refuse all that follow
    (aiokafka does not take them back).
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._lock = asyncio.Lock()
        self._producer: AIOKafkaProducer | None = None
        self._users: dict[AIOKafkaProducer, int] = {}
        self._retired: set[AIOKafkaProducer] = set()
        self._endings: set[asyncio.Task[None]] = set()
        self.idempotent = True
        self.partitions = 0

    async def start(self) -> None:
        """Connect. BrokerError: no broker answers, or the topic does not exist."""
        self._producer = await self._open()
        try:
            self.partitions = await self._count_partitions(self._producer)
        except BaseException:
            await self._end(self._producer)
            raise

    async def borrow(self) -> AIOKafkaProducer:
        """The current producer; give it back with `give_back`."""
        async with self._lock:
            if self._producer is None:
                self._producer = await self._open()
            self._users[self._producer] = self._users.get(self._producer, 0) + 1
            return self._producer

    async def give_back(self, producer: AIOKafkaProducer, *, broken: bool = False) -> None:
        """End the use of a producer. `broken`: nobody gets it any more; it ends with its last user.

        The last user waits for that end, so that what it sends next can't be overtaken by an old retry.
        """
        if broken:
            self._retired.add(producer)
            if self._producer is producer:
                self._producer = None
        left = self._users.get(producer, 1) - 1
        self._users[producer] = left
        if not left and producer in self._retired:
            self._retired.discard(producer)
            self._users.pop(producer, None)
            # A task of its own: the user may be cancelled meanwhile, and nobody else would end this producer.
            ending = asyncio.create_task(self._end(producer))
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)
            await asyncio.shield(ending)

    async def stop(self) -> None:
        for producer in {self._producer, *self._retired} - {None}:
            assert producer is not None
            await self._end(producer)
        self._producer = None
        self._retired.clear()
        if self._endings:
            await asyncio.wait(self._endings)

    async def _open(self) -> AIOKafkaProducer:
        lacking: Exception | None = None
        if self.idempotent:
            try:
                return await self._start_one(idempotent=True)
            except NO_IDEMPOTENCE as error:
                self.idempotent, lacking = False, error
        try:
            producer = await self._start_one(idempotent=False)
        except NO_IDEMPOTENCE as error:
            raise self._unreachable(error) from error
        if lacking is not None:
            await self._say_not_idempotent(producer, lacking)
        return producer

    async def _say_not_idempotent(self, producer: AIOKafkaProducer, error: Exception) -> None:
        """A warning, except of the embedded broker, which never has idempotent producers."""
        try:
            found = await incarnation_through(producer.client, self._topic)
        except BrokerError:
            found = Incarnation()
        embedded = found.cluster_id == CLUSTER_ID
        log.log(
            logging.DEBUG if embedded else logging.WARNING,
            "the broker gives no idempotent producer",
            broker=self._settings.broker.bootstrap_servers,
            reason=_REASONS.get(type(error), f"it answered {type(error).__name__}: {error}"),
            effect="a retry after a lost answer can append an event twice; ingest drops the second one",
        )

    async def _start_one(self, *, idempotent: bool) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(**self._options(idempotent))
        try:
            await producer.start()
        except BaseException as error:
            # aiokafka's stop() returns at once when start() failed half way, but closes the client.
            await producer.stop()
            if isinstance(error, NO_IDEMPOTENCE):
                raise
            if (
                isinstance(error, KafkaConnectionError)
                and (denied := await why_denied(self._settings.broker)) is not None
            ):
                raise denied from error
            if isinstance(error, KafkaError | OSError):
                raise self._unreachable(error) from error
            raise
        return producer

    def _unreachable(self, error: BaseException) -> BrokerError:
        servers = self._settings.broker.bootstrap_servers
        if isinstance(error, KafkaConnectionError | OSError):
            return BrokerError(f"no Kafka broker answers at {servers} (broker.bootstrap_servers)")
        return BrokerError(f"the Kafka broker at {servers} refuses a producer: {error!r}")

    def _options(self, idempotent: bool) -> Mapping[str, Any]:
        publish, broker = self._settings.publish, self._settings.broker
        compression = None if publish.compression == "none" else publish.compression
        if compression in ("snappy", "lz4", "zstd"):
            try:
                import cramjam  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
            except ImportError:
                raise SettingsError(
                    f"publish.compression={compression} needs the package cramjam; install it, or take gzip or none"
                ) from None
        return {
            **client_options(broker),
            "acks": "all",
            "enable_idempotence": idempotent,
            "compression_type": compression,
            # Lingering and batching are ours: a record batch is handed over complete.
            "linger_ms": 0,
            "max_batch_size": publish.bundle_bytes,
        }

    async def _count_partitions(self, producer: AIOKafkaProducer) -> int:
        # Asking for one topic would create it, with one partition, where the broker allows that; the list
        # of all topics, which start() fetched, creates nothing.
        give_up = time.monotonic() + TOPIC_S
        while self._topic not in producer.client.cluster.topics(exclude_internal_topics=False):
            if time.monotonic() > give_up:
                raise BrokerError(
                    f"the topic {self._topic} does not exist at {self._settings.broker.bootstrap_servers}"
                    f"{or_hidden(self._settings.broker)}; "
                    "create it with: akasha-stream topics apply"
                )
            await producer.client.force_metadata_update()
            await asyncio.sleep(0.1)
        return len(await producer.partitions_for(self._topic))

    async def _end(self, producer: AIOKafkaProducer) -> None:
        """End a producer without a flush: what it still holds was acknowledged, or has been reported as failed.

        stop() would wait for that flush, for ever while the broker is away, and there is no public way besides.
        """
        producer._closed = True  # else it complains when it is collected
        task = producer._sender.sender_task
        if task is not None:
            task.cancel()
            # It ends when its request under way does; closing the connections below ends that one.
            await asyncio.wait([task], timeout=STOP_S)
        await producer.client.close()
