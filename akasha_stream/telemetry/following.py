"""An event's way through a worker, where its producer records a trace of it.

For each such record there is a span `process <topic>` in the producer's trace, from its fetch until it is searchable,
and below it the commit. A commit that holds several traced records is a trace of its own, linked both ways, as the
semantic conventions for messaging have it for batches. The spans are made after the commit: what is measured does
not know of them, and records without a trace cost one look at their headers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, set_span_in_context

from akasha_stream.events.records import Record
from akasha_stream.telemetry import tracing

REMEMBERED = 128
"""Traced records of a shard that a spilled segment may be linked to, and most that are traced of a commit: as many as
a span may have links. Producers decide, and are not trusted."""


class Traced(NamedTuple):
    epoch: int
    offset: int
    span: SpanContext
    """Of the record's processing."""


class TracedRecords:
    """The newest traced records of a shard; in memory only. Any thread."""

    def __init__(self) -> None:
        self._records: deque[Traced] = deque(maxlen=REMEMBERED)

    def add(self, record: Traced) -> None:
        self._records.append(record)

    def between(self, epoch: int, start: int, end: int) -> list[SpanContext]:
        """Of the offsets [start, end) of an epoch."""
        return [each.span for each in self._records.copy() if each.epoch == epoch and start <= each.offset < end]


class Commit(NamedTuple):
    """A part of a partition's log that is searchable now."""

    partition: int
    epoch: int
    records: Sequence[Record]
    events: int
    dead_letters: int
    began_ns: int
    """time.time_ns() when its commit began, and when it was over."""
    ended_ns: int


class EventTraces:
    def __init__(self, topic: str, group: str) -> None:
        self.is_on = tracing.is_on()
        self._topic = topic
        self._of_topic = {
            "messaging.system": "kafka",
            "messaging.destination.name": topic,
            "messaging.consumer.group.name": group,
        }

    def committed(self, commit: Commit, fetched_ns: int, traced: TracedRecords) -> None:
        """Make the spans of a commit's traced records. `fetched_ns`: time.time_ns() when its batch came."""
        if not self.is_on:
            return
        parents = [
            (record, parent)
            for record in commit.records
            if record.headers and (parent := tracing.sampled_parent(record.headers)) is not None
        ]
        if not parents:
            return
        del parents[REMEMBERED:]
        if len(parents) == 1:
            (record, parent) = parents[0]
            process = self._process(record, parent, fetched_ns, [])
            self._commit(commit, set_span_in_context(process), []).end(commit.ended_ns)
            self._end(process, record, commit, traced)
            return
        span = self._commit(commit, Context(), [Link(parent) for _, parent in parents])
        for record, parent in parents:
            process = self._process(record, parent, fetched_ns, [Link(span.get_span_context())])
            self._end(process, record, commit, traced)
        span.end(commit.ended_ns)

    def _process(self, record: Record, parent: SpanContext, began_ns: int, links: Sequence[Link]) -> Span:
        return tracing.tracer.start_span(
            f"process {self._topic}",
            context=tracing.in_parent(parent),
            kind=SpanKind.CONSUMER,
            links=links,
            start_time=began_ns,
            attributes=self._of_topic
            | {
                "messaging.operation.type": "process",
                "messaging.operation.name": "process",
                "messaging.destination.partition.id": str(record.partition),
                "messaging.kafka.offset": record.offset,
                "messaging.message.body.size": len(record.value or b""),
            },
        )

    def _end(self, span: Span, record: Record, commit: Commit, traced: TracedRecords) -> None:
        # Time in Kafka: from its append until it was fetched.
        span.set_attribute("akasha.record.timestamp_ms", record.timestamp_ms)
        span.end(commit.ended_ns)
        traced.add(Traced(commit.epoch, record.offset, span.get_span_context()))

    def _commit(self, commit: Commit, context: Context, links: Sequence[Link]) -> Span:
        return tracing.tracer.start_span(
            "commit",
            context=context,
            kind=SpanKind.CLIENT,
            links=links,
            start_time=commit.began_ns,
            attributes={
                "db.system.name": "duckdb",
                "db.operation.name": "COMMIT",
                "messaging.batch.message_count": len(commit.records),
                "akasha.partition": commit.partition,
                "akasha.events": commit.events,
                "akasha.dead_letters": commit.dead_letters,
            },
        )
