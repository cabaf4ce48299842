"""What a record's headers may say, and which spans a commit gets; with an SDK of this test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased
from opentelemetry.trace import SpanContext

from akasha_stream.events.records import Record
from akasha_stream.settings import TelemetrySettings
from akasha_stream.telemetry import setup, tracing
from akasha_stream.telemetry.following import REMEMBERED, Commit, EventTraces, TracedRecords
from akasha_stream.telemetry.tracing import sampled_parent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def header(flags: str = "01", trace: str = TRACE) -> tuple[str, bytes]:
    return "traceparent", f"00-{trace}-{SPAN}-{flags}".encode()


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Not the process's provider: other tests see none."""
    sampler = setup._sampler(TelemetrySettings(sample_ratio=0.0))
    assert isinstance(sampler, ParentBased)
    provider = TracerProvider(sampler, shutdown_on_exit=False)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def commit(traces: EventTraces, records: list[Record], traced: TracedRecords) -> None:
    traces.committed(Commit(3, 1, records, len(records), 0, 200, 300), 100, traced)


def on() -> EventTraces:
    traces = EventTraces("topic", "group")
    traces.is_on = True
    return traces


def record(offset: int, *headers: tuple[str, bytes]) -> Record:
    return Record(3, offset, 1_000, b"s", b"value", headers)


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def context(span: ReadableSpan) -> SpanContext:
    found: SpanContext | None = span.context
    assert found is not None
    return found


def test_a_sampled_parent_is_read() -> None:
    found = sampled_parent([("content-type", b"x"), header(), ("tracestate", b"vendor=1")])
    assert found is not None
    assert (f"{found.trace_id:032x}", f"{found.span_id:016x}") == (TRACE, SPAN)
    assert found.trace_state.get("vendor") == "1"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Traceparent", header()[1])],
        [header("00")],
        [("traceparent", b"")],
        [("traceparent", b"00-" + b"0" * 32 + b"-" + SPAN.encode() + b"-01")],
        [("traceparent", header()[1] + b"\xff" * 1_000_000)],
    ],
)
def test_nothing_else_is(headers: list[tuple[str, bytes]]) -> None:
    assert sampled_parent(headers) is None


@given(st.lists(st.tuples(st.sampled_from(["traceparent", "tracestate", "x"]), st.none() | st.binary(max_size=80))))
def test_no_header_is_an_error(headers: list[tuple[str, bytes | None]]) -> None:
    sampled_parent(headers)


def test_a_large_tracestate_is_left_out() -> None:
    found = sampled_parent([header(), ("tracestate", b"a=" + b"b" * 600)])
    assert found is not None
    assert not found.trace_state


def test_records_without_a_trace_get_no_span(exported: InMemorySpanExporter) -> None:
    traced = TracedRecords()
    commit(on(), [record(1), record(2, header("00"))], traced)
    assert exported.get_finished_spans() == ()
    assert traced.between(1, 0, 10) == []


def test_one_traced_record_has_its_commit_below_it(exported: InMemorySpanExporter) -> None:
    traced = TracedRecords()
    commit(on(), [record(1), record(2, header())], traced)
    (process,), (committed,) = named(exported, "process topic"), named(exported, "commit")
    assert process.parent is not None
    assert f"{process.parent.span_id:016x}" == SPAN
    assert committed.parent is not None
    assert committed.parent.span_id == context(process).span_id
    assert (process.start_time, process.end_time) == (100, 300)
    assert (committed.start_time, committed.end_time) == (200, 300)
    assert traced.between(1, 0, 3) == [context(process)]
    assert traced.between(1, 0, 2) == traced.between(2, 0, 3) == []


def test_several_share_a_commit_that_is_linked_both_ways(exported: InMemorySpanExporter) -> None:
    """Recorded though no request is: what it is linked to is."""
    commit(on(), [record(n, header(trace=f"{n + 1:032x}")) for n in range(3)], TracedRecords())
    (committed,), processes = named(exported, "commit"), named(exported, "process topic")
    assert committed.parent is None
    assert [link.context.trace_id for link in committed.links] == [1, 2, 3]
    assert [context(span).trace_id for span in processes] == [1, 2, 3]
    assert {span.links[0].context.span_id for span in processes} == {context(committed).span_id}


def test_a_producer_that_traces_everything_gets_so_many_spans(exported: InMemorySpanExporter) -> None:
    traced = TracedRecords()
    commit(on(), [record(n, header()) for n in range(1_000)], traced)
    assert len(named(exported, "process topic")) == REMEMBERED
    assert len(traced.between(1, 0, 1_000)) == REMEMBERED


def test_switched_off_it_does_not_look(exported: InMemorySpanExporter) -> None:
    commit(EventTraces("topic", "group"), [record(1, header())], TracedRecords())
    assert exported.get_finished_spans() == ()


def test_a_span_without_a_traced_parent_is_none(exported: InMemorySpanExporter) -> None:
    with tracing.span("step") as made:
        assert not made.is_recording()
    with tracing.linked_span("spill", []):  # by ratio, which is 0 here
        pass
    assert exported.get_finished_spans() == ()
