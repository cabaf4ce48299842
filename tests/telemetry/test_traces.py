"""One event, followed from its producer's span to the commit, the spilled segment and the search that finds it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from akasha_stream.embedded import Broker
from tests.telemetry.receiver import Protocol, Received, ReceivedSpan, receiver
from tests.worker.process import ROOT
from tests.worker.stage import Stage

CLIENT, CONSUMER, PRODUCER, SERVER = 3, 5, 4, 2


async def client(stage: Stage, url: str, received: Received, protocol: Protocol, **more: int) -> dict[str, Any]:
    given = {"settings": stage.overrides, "url": url, "endpoint": received.url, "protocol": protocol, **more}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.telemetry.traced_client", json.dumps(given)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    ids: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return ids


def only(spans: list[ReceivedSpan]) -> ReceivedSpan:
    assert len(spans) == 1, spans
    return spans[0]


@pytest.mark.kafka
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
async def test_one_trace_from_the_producer_to_commit_spill_and_search(
    protocol: Protocol, kafka: Broker, tmp_path: Path
) -> None:
    stage = await Stage.spilling(
        kafka,
        tmp_path,
        partitions=1,
        tiers__cache_bytes=0,
        telemetry__sample_ratio=0.0,  # nothing is traced but what its caller traces
        telemetry__protocol=protocol,
    )
    with receiver(protocol) as received:
        stage.variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = received.url
        stage.variables["OTEL_BSP_SCHEDULE_DELAY"] = "200"
        async with stage.worker() as worker:
            ids = await client(stage, worker.url, received, protocol, spans=1)
            trace_id = ids["trace_id"]
            assert await asyncio.to_thread(received.wait_for, lambda: bool(received.named("spill")))
            async with asyncio.timeout(60):
                while (
                    "remote" not in (await worker.get("/metrics")).text
                    or (await worker.get("/v1/partitions")).json()["partitions"][0]["remote_segments"] == 0
                ):
                    await asyncio.sleep(0.1)
            again = await client(stage, worker.url, received, protocol, spans=1)
            await worker.stop()
        logged = [json.loads(line) for line in worker.logged().splitlines() if line.startswith("{")]

    # The producer's: a child of the span that published.
    send = only([s for s in received.named(f"send {stage.topic}") if s.trace_id == trace_id])
    assert (send.service, send.kind, send.parent_id) == ("application", PRODUCER, ids["publishing"][0])
    assert send.attributes["messaging.system"] == "kafka"
    assert send.attributes["messaging.destination.name"] == stage.topic
    assert send.attributes["akasha.events"] == 20

    # The worker's, in the same trace: processing, and the commit in it.
    process = only([s for s in received.named(f"process {stage.topic}") if s.trace_id == trace_id])
    assert (process.service, process.kind, process.parent_id) == ("akasha-stream", CONSUMER, send.span_id)
    assert process.attributes["messaging.kafka.offset"] == send.attributes["messaging.kafka.offset"] == 0
    assert process.attributes["messaging.consumer.group.name"] == stage.topic
    commit = only([s for s in received.named("commit") if s.trace_id == trace_id])
    assert (commit.kind, commit.parent_id) == (CLIENT, process.span_id)
    assert process.start_ns <= commit.start_ns <= commit.end_ns == process.end_ns
    assert commit.attributes["db.system.name"] == "duckdb"

    # The spill has many parents in general: a trace of its own, linked to what it holds.
    spill = next(s for s in received.named("spill") if (trace_id, process.span_id) in s.links)
    assert spill.trace_id != trace_id
    assert any(s.parent_id == spill.span_id for s in received.named("storage.put_if_absent"))
    spilled = next(line for line in logged if line["event"] == "segment spilled")
    assert (spilled["trace_id"], spilled["span_id"]) == (spill.trace_id, spill.span_id)

    # The search: an HTTP server span in the searcher's trace, with its steps; the second one reads the object store.
    search = only([s for s in received.named("POST /v1/search") if s.trace_id == trace_id])
    assert (search.service, search.kind, search.parent_id) == ("akasha-stream", SERVER, ids["work"])
    assert search.attributes["akasha.outcome"] == "complete"
    steps = {s.name for s in received.spans if s.parent_id == search.span_id}
    assert steps == {"search.plan", "search.scan", "search.rescore", "search.rank", "search.hits"}
    remote = [s for s in received.named("storage.download_range") if s.trace_id == again["trace_id"]]
    by_id = {s.span_id: s for s in received.spans}
    assert remote
    assert {by_id[s.parent_id].name for s in remote} <= {"search.rescore", "search.rank", "search.hits"}


@pytest.mark.kafka
async def test_a_bundle_of_many_traces_is_linked_to_each(kafka: Broker, tmp_path: Path) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=1, publish__linger_ms=5_000, publish__bundle_events=20)
    with receiver("http/protobuf") as received:
        stage.variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = received.url
        async with stage.worker() as worker:
            ids = await client(stage, worker.url, received, "http/protobuf", spans=4)
            await worker.stop()
    send = only(received.named(f"send {stage.topic}"))
    assert send.parent_id == ids["publishing"][0]
    assert [span for _, span in send.links] == ids["publishing"][1:]


@pytest.mark.kafka
async def test_a_commit_of_many_traced_bundles_is_linked_both_ways(kafka: Broker, tmp_path: Path) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=1, publish__bundle_events=1)
    with receiver("http/protobuf") as received:
        stage.variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = received.url
        async with stage.worker() as worker:
            ids = await client(stage, worker.url, received, "http/protobuf", spans=1, events=50)
            await worker.stop()
    sends = received.named(f"send {stage.topic}")
    processed = received.named(f"process {stage.topic}")
    assert len(sends) == len(processed) == 50
    assert {s.trace_id for s in processed} == {ids["trace_id"]}
    assert {s.parent_id for s in processed} == {s.span_id for s in sends}
    commits = {(s.trace_id, s.span_id): s for s in received.named("commit")}
    assert any(span.links for span in processed)  # the publisher sends them in one record batch
    for span in processed:
        if span.links:
            commit = commits[only_link(span)]
            assert commit.trace_id != span.trace_id
            assert (span.trace_id, span.parent_id) in commit.links
        else:
            assert any(each.parent_id == span.span_id for each in commits.values())


def only_link(span: ReceivedSpan) -> tuple[str, str]:
    assert len(span.links) == 1
    return span.links[0]


@pytest.mark.kafka
async def test_metrics_come_over_otlp_too(kafka: Broker, tmp_path: Path) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=1, telemetry__prometheus=False)
    with receiver("http/protobuf") as received:
        stage.variables["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"] = f"{received.url}/v1/metrics"
        stage.variables["OTEL_METRIC_EXPORT_INTERVAL"] = "300"
        stage.variables["OTEL_SERVICE_NAME"] = "memory"
        async with stage.worker() as worker:
            assert (await worker.get("/metrics")).status_code == 404
            await client(stage, worker.url, received, "http/protobuf", spans=1)

            def stored() -> bool:
                events = received.metrics.get("akasha.ingest.events")
                return events is not None and sum(point.as_int for point in events.sum.data_points) == 20

            assert await asyncio.to_thread(received.wait_for, stored)
            await worker.stop()
    assert received.services == {"memory"}
    assert {span.service for span in received.spans} == {"application"}  # of traces no endpoint is set


@pytest.mark.kafka
async def test_the_command_publish_begins_traces(kafka: Broker, tmp_path: Path) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=1, telemetry__sample_ratio=1.0)
    file = tmp_path / "events.jsonl"
    file.write_text('{"event_id": "1", "source_system": "s", "content": "x", "embedding": %s}\n' % ([0.5] * 384))
    with receiver("http/protobuf") as received:
        stage.variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = received.url
        settings = {f"AKASHA_{key.upper().replace('.', '__')}": str(value) for key, value in stage.overrides.items()}
        async with stage.worker() as worker:
            done = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-m", "akasha_stream.cli", "publish", str(file)],
                cwd=ROOT,
                env={**os.environ, **settings, **stage.variables},
                capture_output=True,
                text=True,
                check=False,
                timeout=90,
            )
            assert done.returncode == 0, done.stderr
            topic = stage.topic
            assert await asyncio.to_thread(received.wait_for, lambda: bool(received.named(f"process {topic}")))
            await worker.stop()
    send, process = only(received.named(f"send {stage.topic}")), only(received.named(f"process {stage.topic}"))
    assert (process.trace_id, process.parent_id) == (send.trace_id, send.span_id)


async def test_without_an_endpoint_nothing_is_traced(tansu: Broker, tmp_path: Path) -> None:
    stage = await Stage.make(tansu, tmp_path, partitions=1)
    with receiver("http/protobuf") as received:
        async with stage.worker() as worker:
            await client(stage, worker.url, received, "http/protobuf", spans=1)
            await worker.stop()
    assert {span.service for span in received.spans} == {"application"}


async def test_a_collector_that_is_away_neither_stops_the_worker_nor_holds_its_end_up(
    tansu: Broker, tmp_path: Path
) -> None:
    stage = await Stage.make(tansu, tmp_path, partitions=1, telemetry__sample_ratio=1.0)
    stage.variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
    async with stage.worker() as worker:
        await worker.search(vector=[1.0] * 384, k=1)
        await worker.stop(30)
    assert "not sent" in worker.logged() or "export" in worker.logged()
