"""The span of a bundle, from its encoding until the broker acknowledges it, and its context for the record's headers.

A bundle's events may have been published in several traces. The first that is recorded is the parent of its span,
which is linked to the others. Without a TracerProvider of the application's there is no span, and no header.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.trace import Link, SpanKind, StatusCode

from akasha_stream.telemetry import tracing
from akasha_stream.telemetry.tracing import INVALID_SPAN, Span, SpanContext


class BundleTraces:
    """Of one partition."""

    def __init__(self, topic: str, partition: int) -> None:
        self._is_on = tracing.is_on()
        self._name = f"send {topic}"
        self._attributes = {
            "messaging.system": "kafka",
            "messaging.operation.type": "send",
            "messaging.operation.name": "send",
            "messaging.destination.name": topic,
            "messaging.destination.partition.id": str(partition),
        }

    def start(self, parents: Sequence[SpanContext], *, events: int, bundle_id: str, size: int) -> Span:
        """`parents`: of the events, each once. `size`: of the record's value, in bytes."""
        if not self._is_on:
            return INVALID_SPAN
        parent = next((each for each in parents if each.trace_flags.sampled), parents[0] if parents else None)
        return tracing.tracer.start_span(
            self._name,
            context=tracing.Context() if parent is None else tracing.in_parent(parent),
            kind=SpanKind.PRODUCER,
            links=[Link(each) for each in parents if each is not parent],
            attributes=self._attributes
            | {"messaging.message.id": bundle_id, "messaging.message.body.size": size, "akasha.events": events},
        )


def headers_of(span: Span) -> list[tuple[str, bytes]]:
    return tracing.headers_of(span) if span is not INVALID_SPAN else []


def acknowledged(span: Span, offset: int) -> None:
    span.set_attribute("messaging.kafka.offset", offset)
    span.end()


def failed(span: Span, reason: str) -> None:
    span.set_attribute("error.type", "PublishError")
    span.set_status(StatusCode.ERROR, reason)
    span.end()


def distinct(contexts: Sequence[SpanContext | None]) -> list[SpanContext]:
    """Each span once, in order."""
    return list({(each.trace_id, each.span_id): each for each in contexts if each is not None}.values())
