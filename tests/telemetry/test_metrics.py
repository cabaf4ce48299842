"""GET /metrics of a worker: all that the catalog and docs/telemetry.md name, with the right figures, and no more."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest

from akasha_stream.embedded import Broker, ValkeyServer
from akasha_stream.telemetry import catalog
from tests.publish.events import make_events
from tests.telemetry.names import families, label, prometheus_name, series, value
from tests.worker.process import ROOT, WorkerProcess
from tests.worker.stage import Stage

DOCS = (ROOT / "docs" / "telemetry.md").read_text()
OF_THE_PROCESS = re.compile(r"process_\w+|target_info")


async def scrape(worker: WorkerProcess) -> str:
    answer = await worker.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return answer.text


def documented() -> dict[str, tuple[str, str, set[str]]]:
    """name → (Prometheus' name, kind, attributes), of the tables"""
    rows = re.findall(r"^\| `([a-z_.]+)` \| `([a-z_]+)` \| (\w+) \| (.*?) \| .+ \|$", DOCS, re.MULTILINE)
    return {name: (prometheus, kind, set(re.findall(r"`([^`]+)`", has))) for name, prometheus, kind, has in rows}


def test_the_documentation_has_the_catalog() -> None:
    assert documented() == {
        metric.name: (prometheus_name(metric), metric.kind, set(metric.attributes)) for metric in catalog.ALL
    }


def test_attributes_name_nobody() -> None:
    """Bounded in number, and nothing of what events say."""
    named = {attribute for metric in catalog.ALL for attribute in metric.attributes}
    assert not any(word in each for each in named for word in ("source_system", "event_id", "content", "query"))


@pytest.fixture
async def stage(tansu: Broker, valkey: ValkeyServer, tmp_path: Path) -> Stage:
    """With all that a worker can have, so that every metric is there."""
    return await Stage.spilling(
        tansu,
        tmp_path,
        partitions=2,
        valkey=valkey.url,
        dedupe__window_s=1e9,
        redaction__patterns={"number": "secret-[0-9]+"},
    )


@pytest.mark.valkey
async def test_a_worker_exports_what_is_documented_and_nothing_else(stage: Stage) -> None:
    async with stage.worker() as worker:
        await stage.publish(make_events(20))
        await stage.until_searchable(worker)
        async with asyncio.timeout(60):
            while value(await scrape(worker), "akasha_segments", akasha_segment_state="remote") < 1:
                await asyncio.sleep(0.2)
        await worker.search(vector=[1.0] * 384, k=3)
        await bad_record(stage)
        async with asyncio.timeout(60):
            while not value(await scrape(worker), "akasha_ingest_dead_letters_total"):
                await asyncio.sleep(0.2)
        text = await scrape(worker)
        await worker.stop()
    exported = {name: kind for name, kind in families(text).items() if not OF_THE_PROCESS.fullmatch(name)}
    kinds = {"updown": "gauge"}
    expected = {prometheus_name(each): kinds.get(each.kind, each.kind) for each in catalog.ALL}
    retries = prometheus_name(catalog.STORAGE_RETRIES)  # there were none
    assert {**exported, retries: expected[retries]} == expected
    labels = {name: set().union(*(dict(has) for has in series(text, f"{name}(?:_count)?"))) for name in exported}
    allowed = {prometheus_name(each): {label(attribute) for attribute in each.attributes} for each in catalog.ALL}
    assert {name: has - allowed[name] for name, has in labels.items()} == {name: set() for name in exported}


async def bad_record(stage: Stage) -> None:
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(bootstrap_servers=stage.broker.bootstrap_servers)
    await producer.start()
    try:
        await producer.send_and_wait(stage.topic, value=b"no JSON", key=b"system-0", partition=0)
    finally:
        await producer.stop()


@pytest.mark.valkey
async def test_the_figures_are_those_of_the_events(stage: Stage) -> None:
    first = make_events(40, systems=4)
    changed = [replace(each, content=f"changed {n}") for n, each in enumerate(first[:5])]
    secret = make_events(1, prefix="secret", content="secret-123")
    deleted = [replace(each, op="delete") for each in first[5:8]]
    async with stage.worker(hot__seal_age_s=3600.0) as worker:
        for published in (first, first, changed, secret, deleted):
            await stage.publish(published)
        await bad_record(stage)
        await stage.until_searchable(worker)
        async with asyncio.timeout(60):  # counted last
            while not value(text := await scrape(worker), "akasha_ingest_dead_letters_total"):
                await asyncio.sleep(0.1)
        ends = {
            each["partition"]: each["next_offset"] for each in (await worker.get("/v1/partitions")).json()["partitions"]
        }
        await worker.stop()

    def events(outcome: str) -> float:
        return value(text, "akasha_ingest_events_total", akasha_outcome=outcome)

    assert (events("stored"), events("updated"), events("deleted"), events("duplicate_exact")) == (41, 5, 3, 40)
    assert value(text, "akasha_ingest_dead_letters_total", akasha_reason="json_invalid") == 1
    assert value(text, "messaging_client_sent_messages_total", messaging_destination_name=f"{stage.topic}.dlq") == 1
    assert value(text, "akasha_ingest_redacted_total") == 1
    assert value(text, "akasha_rows_live") == 41 - 3
    assert value(text, "akasha_rows", akasha_segment_state="growing") == 41 + 5
    assert value(text, "akasha_component_ok", akasha_component="lookups") == 1
    assert value(text, "akasha_lookups_available") == 1
    assert value(text, "akasha_worker_ready") == 1
    assert value(text, "akasha_partitions_owned") == value(text, "akasha_topic_partitions") == 2
    for partition, end in ends.items():
        assert value(text, "akasha_partition_next_offset", akasha_partition=str(partition)) == end
        assert value(text, "akasha_partition_lag_records", akasha_partition=str(partition)) == 0
        assert value(text, "akasha_partition_lag_time_seconds", akasha_partition=str(partition)) == 0
    commits = value(text, "db_client_operation_duration_seconds_count")
    assert commits >= value(text, "akasha_ingest_freshness_seconds_count") >= 1
    assert value(text, "messaging_process_duration_seconds_count") >= 1


async def test_the_number_of_series_does_not_grow_with_the_systems(tansu: Broker, tmp_path: Path) -> None:
    stage = await Stage.make(tansu, tmp_path, partitions=2)
    async with stage.worker() as worker:
        await stage.publish(make_events(10, systems=1))
        await stage.until_searchable(worker)
        before = sorted(re.findall(r"^(\S+) ", await scrape(worker), re.MULTILINE))
        await stage.publish(make_events(300, systems=150, prefix="more"))
        await stage.until_searchable(worker)
        after = sorted(re.findall(r"^(\S+) ", await scrape(worker), re.MULTILINE))
        assert after == before
        await worker.stop()
