"""An application with an OpenTelemetry SDK of its own: publishes and searches inside one span, then prints its ids.

`python -m tests.telemetry.traced_client '{"settings": {…}, "url": …, "endpoint": …, "protocol": …, "spans": 1}'`
With "spans": n the events are published in n spans of their own.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from akasha_stream.client import AkashaClient
from akasha_stream.publish import EventPublisher
from akasha_stream.publish.delivery import merge_tokens
from akasha_stream.settings import Settings
from tests.publish.events import make_events


async def main(given: dict[str, Any]) -> None:
    tracer = trace.get_tracer("application")
    events = make_events(given.get("events", 20), systems=1)
    futures, publishing = [], []
    with tracer.start_as_current_span("work") as work:
        async with EventPublisher(Settings.load(overrides=given["settings"])) as publisher:
            for n in range(given["spans"]):
                with tracer.start_as_current_span(f"publishing {n}") as span:
                    publishing.append(span.get_span_context())
                    futures += [await publisher.publish(event) for event in events[n :: given["spans"]]]
            deliveries = await asyncio.gather(*futures)
        async with AkashaClient(given["url"]) as client:
            answer = await client.search(
                vector=events[0].embedding, k=3, after=merge_tokens(deliveries), after_timeout_s=60
            )
            if not answer.complete or answer.hits[0].event_id != events[0].event_id:
                raise RuntimeError(f"not found: {answer}")
    ids = {
        "trace_id": f"{work.get_span_context().trace_id:032x}",
        "work": f"{work.get_span_context().span_id:016x}",
        "publishing": [f"{each.span_id:016x}" for each in publishing],
    }
    sys.stdout.write(json.dumps(ids) + "\n")


def provider(given: dict[str, Any]) -> TracerProvider:
    made = TracerProvider(resource=Resource.create({"service.name": "application"}))
    if given["protocol"] == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc

        made.add_span_processor(BatchSpanProcessor(Grpc(given["endpoint"], insecure=True)))
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(given["endpoint"] + "/v1/traces")))
    return made


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    spans = provider(given)
    trace.set_tracer_provider(spans)
    asyncio.run(main(given))
    spans.shutdown()
