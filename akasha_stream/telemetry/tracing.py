"""Spans, and the W3C trace context in headers. Without a TracerProvider nothing here costs more than a look.

Spans are made through OpenTelemetry's global provider: an application's, where it has one, else a worker's own
(setup.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, ProxyTracerProvider, Span, SpanContext, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
MOST_BYTES = 512
_W3C = TraceContextTextMapPropagator()

tracer = trace.get_tracer("akasha_stream")


def is_on() -> bool:
    """Whether there is a provider that could make spans."""
    return not isinstance(trace.get_tracer_provider(), ProxyTracerProvider)


def current() -> SpanContext | None:
    """Of the span that this task or thread is in; None where there is none."""
    found = trace.get_current_span().get_span_context()
    return found if found.is_valid else None


@contextmanager
def span(name: str, **attributes: str | int | float | bool) -> Iterator[Span]:
    """A child of the current span; where that is not recorded, nothing. Keys: `akasha.` is put before them."""
    if not trace.get_current_span().is_recording():
        yield INVALID_SPAN
        return
    with tracer.start_as_current_span(name, attributes=_ours(attributes)) as made:
        yield made


@contextmanager
def linked_span(name: str, links: Iterable[SpanContext], **attributes: str | int | float | bool) -> Iterator[Span]:
    """The first span of a trace of its own, which says what it follows from."""
    with tracer.start_as_current_span(
        name, context=Context(), links=[Link(each) for each in links], attributes=_ours(attributes)
    ) as made:
        yield made


def in_parent(parent: SpanContext) -> Context:
    """For `start_span(context=…)`."""
    return trace.set_span_in_context(trace.NonRecordingSpan(parent))


def headers_of(span: Span) -> list[tuple[str, bytes]]:
    """traceparent (and tracestate) that make `span` the parent of whoever reads them, as Kafka headers."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(span))
    return [(key, value.encode()) for key, value in carrier.items()]


def http_headers() -> dict[str, str]:
    """Those of an outgoing request; none outside of a span."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier


def parent_of(headers: Mapping[str, str]) -> SpanContext | None:
    """What `traceparent` says; None where it is missing or malformed."""
    if TRACEPARENT not in headers:
        return None
    context = _W3C.extract(headers)
    found = trace.get_current_span(context).get_span_context()
    return found if found.is_valid else None


def sampled_parent(headers: Sequence[tuple[str, bytes | None]]) -> SpanContext | None:
    """Of a Kafka record's headers, where its producer records the trace; untrusted, so anything may stand there."""
    found = {name: value for name, value in headers if name in (TRACEPARENT, TRACESTATE) and value}
    parent = None if TRACEPARENT not in found else parent_of({name: _text(value) for name, value in found.items()})
    return parent if parent is not None and parent.trace_flags.sampled else None


def _text(value: bytes | None) -> str:
    """ "", which is no context, for what is longer than W3C allows."""
    return (value or b"").decode("latin-1") if len(value or b"") <= MOST_BYTES else ""


def _ours(attributes: Mapping[str, str | int | float | bool]) -> dict[str, str | int | float | bool]:
    return {f"akasha.{key}": value for key, value in attributes.items()}


__all__ = ["INVALID_SPAN", "Context", "Link", "Span", "SpanContext", "SpanKind", "tracer"]
