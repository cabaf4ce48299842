"""Letters published again: their original bytes, back into the embeddings topic.

Each letter goes together with its mark in one Kafka transaction, and whoever requeues has the same transactional id:
a second one shuts the first out before it reads the marks. So a letter is published again once, whether the command
is killed, run twice, or run on two machines at the same time. A broker without transactions (the embedded one) gets
first the record and then the mark: a crash between the two makes a second record, whose event ingest drops as known.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerFenced

from akasha_stream.connections.kafka import client_options
from akasha_stream.dlq.ledger import Choice, Ledger, read_ledger
from akasha_stream.dlq.letter import MARK, MARK_TO, REQUEUED_AT, REQUEUED_FROM, Letter, Mark, Place
from akasha_stream.errors import BrokerError, LetterNotFound
from akasha_stream.hot.durable import passed
from akasha_stream.partitioner import partition_of_key
from akasha_stream.publish.connection import NO_IDEMPOTENCE
from akasha_stream.settings import Settings
from akasha_stream.times import rfc3339
from akasha_stream.topics.broker import broker_errors, connecting
from akasha_stream.topics.reader import TopicReader, as_record, reading

log = structlog.get_logger(__name__)

BATCH_LETTERS = 100
BATCH_BYTES = 8_388_608
"""What one transaction holds at most: it must end within the broker's time-out for one, a minute."""

type Report = Callable[[str, int, int], None]
"""(what is done, how much, of how much)"""


@dataclass(frozen=True, slots=True)
class Sent:
    letter: Place
    to: str
    """topic/partition:offset; with a dry run, the topic."""


@dataclass(frozen=True, slots=True)
class Skipped:
    letter: Place
    why: str


@dataclass(slots=True)
class Requeued:
    dry_run: bool
    transactional: bool = True
    sent: list[Sent] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


async def requeue(
    settings: Settings,
    choice: Choice,
    *,
    dry_run: bool = False,
    again: bool = False,
    report: Report = lambda _what, _done, _of: None,
) -> Requeued:
    """Publish the chosen letters again. `again`: also those that were already.

    What is `sent` when this raises is published for good. Raises BrokerError; UsageError for a place that holds no
    letter, and where the embeddings topic is missing.
    """
    topics = settings.topics
    async with (
        reading(settings.broker, topics.dead_letters) as letters,
        reading(settings.broker, topics.embeddings) as target,
    ):
        if dry_run:
            done = Requeued(dry_run=True)
            ledger = await read_ledger(letters, choice, lambda n, of: report("reading", n, of))
            done.sent = [Sent(each.place, topics.embeddings) for each in _due(ledger, choice, done, again=again)]
            return done
        async with _producer(settings) as (producer, transactional):
            done = Requeued(dry_run=False, transactional=transactional)
            # After the producer has started: nobody else publishes letters again from here on.
            ledger = await read_ledger(letters, choice, lambda n, of: report("reading", n, of))
            due = _due(ledger, choice, done, again=again)
            report("requeueing", 0, len(due))
            async for batch in _batches(letters, due):
                if transactional:
                    with _transaction_errors():
                        async with producer.transaction():
                            sent = await _send(producer, settings, batch, len(target.partitions))
                else:
                    with broker_errors(f"publishing to {topics.embeddings}"):
                        sent = await _send(producer, settings, batch, len(target.partitions))
                done.sent += sent
                report("requeueing", len(done.sent), len(due))
            return done


def _due(ledger: Ledger, choice: Choice, done: Requeued, *, again: bool) -> list[Letter]:
    """The letters to publish; why each of the others is not, goes into `done.skipped`."""
    if missing := sorted(choice.places - {letter.place for letter in ledger.letters}):
        raise LetterNotFound(
            f"there is no letter {', '.join(map(str, missing[:5]))} that is asked for; see: akasha-stream dlq list"
        )
    due = []
    for letter in ledger.letters:
        mark = ledger.mark_of(letter)
        if mark is not None and not again:
            done.skipped.append(Skipped(letter.place, f"requeued before, as {mark.to} {_when(mark)}"))
        elif letter.left_out_bytes is not None:
            origin = f"{letter.origin_topic}/{letter.origin}"
            done.skipped.append(Skipped(letter.place, f"its {letter.left_out_bytes} bytes are only at {origin}"))
        elif letter.key is None and letter.value is None:
            done.skipped.append(Skipped(letter.place, "it has neither key nor value: there is nothing to send"))
        else:
            due.append(letter)
    return due


def _when(mark: Mark) -> str:
    return f"at {rfc3339(datetime.fromtimestamp(mark.timestamp_ms / 1000, UTC), 'seconds')}"


async def _batches(reader: TopicReader, due: Sequence[Letter]) -> AsyncIterator[list[Letter]]:
    """Whole letters, read again: the ledger keeps only the beginning of each."""
    wanted = {letter.place for letter in due}
    starts: dict[int, int] = {}
    ends: dict[int, int] = {}
    for place in wanted:
        starts[place.partition] = min(place.offset, starts.get(place.partition, place.offset))
        ends[place.partition] = max(place.offset + 1, ends.get(place.partition, 0))
    batch: list[Letter] = []
    size = 0
    async for records in reader.between(starts, ends):
        for record in records:
            if Place(record.partition, record.offset) not in wanted:
                continue
            letter = Letter.of(as_record(record))
            if batch and (len(batch) == BATCH_LETTERS or size + letter.size > BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(letter)
            size += letter.size
    if batch:
        yield batch


async def _send(producer: AIOKafkaProducer, settings: Settings, batch: Sequence[Letter], partitions: int) -> list[Sent]:
    topics = settings.topics
    now = rfc3339(datetime.now(UTC), "milliseconds").encode()

    async def again(letter: Letter) -> Any:
        kept = [(name, content) for name, content in letter.headers if name not in {REQUEUED_FROM, REQUEUED_AT}]
        mine = [(REQUEUED_FROM, f"{topics.dead_letters}/{letter.place}".encode()), (REQUEUED_AT, now)]
        if letter.key is not None:
            partition = partition_of_key(letter.key, partitions)
        else:
            partition = min(letter.origin_partition or 0, partitions - 1)
        return await producer.send(
            topics.embeddings, value=letter.value, key=letter.key, partition=partition, headers=[*kept, *mine]
        )

    async def mark(sent: Sent) -> Any:
        headers = [(MARK, str(sent.letter).encode()), (MARK_TO, sent.to.encode())]
        return await producer.send(
            topics.dead_letters, value=None, key=MARK.encode(), partition=sent.letter.partition, headers=headers
        )

    places = await _acknowledged(map(again, batch))
    sent = [
        Sent(letter.place, f"{place.topic}/{place.partition}:{place.offset}")
        for letter, place in zip(batch, places, strict=True)
    ]
    passed("letters sent")
    await _acknowledged(map(mark, sent))
    return sent


async def _acknowledged(sending: Iterable[Awaitable[Any]]) -> list[Any]:
    """What Kafka says of each, in order. Raises the first error, with none of the others left unread."""
    waiting: list[Any] = []
    try:
        for each in sending:
            waiting.append(await each)
    finally:
        results = await asyncio.gather(*waiting, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


@asynccontextmanager
async def _producer(settings: Settings) -> AsyncIterator[tuple[AIOKafkaProducer, bool]]:
    """A started producer, and whether it has transactions. Raises BrokerError."""
    for transactional in (True, False):
        producer = AIOKafkaProducer(
            **client_options(settings.broker, "-requeue"),
            acks="all",
            max_request_size=settings.limits.bundle_bytes * 2 + 1_048_576,
            transactional_id=f"akasha-requeue-{settings.topics.dead_letters}" if transactional else None,
        )
        try:
            async with connecting(settings.broker):
                await producer.start()
        except BrokerError as error:
            await producer.stop()
            if transactional and isinstance(error.__cause__, NO_IDEMPOTENCE):
                log.warning(
                    "requeue_not_transactional",
                    reason=str(error),
                    effect="a crash between record and mark makes a second record, which ingest drops",
                )
                continue
            raise
        try:
            yield producer, transactional
        finally:
            await producer.stop()
        return


class _transaction_errors:  # noqa: N801 - a context manager, named as one
    """aiokafka's errors as BrokerError; being shut out by another requeue says so."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ProducerFenced):
            raise BrokerError(
                "another requeue of the same topic began meanwhile and goes on instead of this one; "
                "what was sent is marked: run the command again"
            ) from error
        if isinstance(error, KafkaError | OSError):
            raise BrokerError(
                f"requeue not committed: {error!r}; what was committed is marked, run it again"
            ) from error
