"""Workers whose segments go to an S3 server: killed, replaced by ones with an empty disk, with the server failing."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from akasha_stream.embedded import Broker, SeaweedServer
from akasha_stream.storage import StorageSettings, StorageTiers, VectorEmbeddingStorage
from akasha_stream.tiers.segment_store import SegmentStore
from tests.servers.fault_proxy import FaultProxy, no_faults, seeded
from tests.servers.topics import unique_name
from tests.worker.model import Identity, Maker, Row
from tests.worker.process import ROOT, WorkerProcess
from tests.worker.stage import Stage, assert_same

EVENTS = 120
PARTITIONS = 2


@pytest.fixture
async def proxy(seaweedfs: SeaweedServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(seaweedfs.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
async def stage(kafka: Broker, seaweedfs: SeaweedServer, proxy: FaultProxy, tmp_path: Path) -> Stage:
    """Segments of some hundred rows, which leave the worker as soon as they are spilled."""
    stage = await Stage.make(
        kafka,
        tmp_path,
        partitions=PARTITIONS,
        hot__seal_rows=150,
        hot__build_indexes=False,
        tiers__enabled=True,
        tiers__keep_local_s=0,
        tiers__keep_local_rows=0,
        search__max_k=10_000,
        dedupe__window_s=86_400,
    )
    file = tmp_path / "akasha-storage.yml"
    file.write_text(storage_yaml(proxy.url, seaweedfs, unique_name("tiers").lower().replace("_", "-")[:60]))
    stage.variables["AKASHA_STORAGE_SETTINGS"] = str(file)
    return stage


def storage_yaml(url: str, server: SeaweedServer, bucket: str) -> str:
    tiers = "\n".join(
        f"  s3-{tier}: {{provider: s3, bucket_name: {bucket}, prefix: {tier}/, tier: {tier}, endpoint_url: {url}, "
        f"create_bucket: true, storage_class: STANDARD, "
        f"access_key_id: {server.access_key_id}, secret_access_key: {server.secret_access_key}}}"
        for tier in ("hot", "warm")
    )
    return f"storage:\n  tiers: {{hot: s3-hot, warm: s3-warm}}\n{tiers}\n"


async def everything(worker: WorkerProcess, stage: Stage) -> dict[Identity, Row]:
    """What a search finds, bodies included."""
    answer = await worker.search(
        vector=[1.0] * 384,
        k=10_000,
        index="exact",
        fields=["content", "position"],
        after=stage.token,
        after_timeout_s=60,
    )
    assert answer["complete"], answer["incomplete"]
    found: dict[Identity, Row] = {}
    for hit in answer["hits"]:
        identity = hit["source_system"], hit["event_id"]
        assert identity not in found
        place = hit["position"]
        found[identity] = Row((place["partition"], place["offset"], place["index"]), hit["content"])
    return found


async def backlog(worker: WorkerProcess) -> int:
    """Segments that wait to be spilled."""
    detail: str = (await worker.health())["tiers"]["detail"]
    return int(detail.rpartition("; ")[2].split()[0])


async def until_spilled(worker: WorkerProcess) -> None:
    async with asyncio.timeout(90):
        while await backlog(worker):
            await asyncio.sleep(0.2)


async def segments(stage: Stage) -> SegmentStore:
    async with StorageTiers(StorageSettings.load(stage.variables["AKASHA_STORAGE_SETTINGS"])) as tiers:
        store = SegmentStore(tiers)
        await store.load(stage.topic)
        return store


@pytest.mark.kafka
async def test_spilled_events_are_found_by_the_worker_and_by_one_that_has_nothing(stage: Stage) -> None:
    maker = Maker(1)
    async with stage.worker() as worker:
        for _ in range(8):
            await stage.publish(maker.mixed(EVENTS))
            await stage.until_searchable(worker)
        await until_spilled(worker)
        assert_same(await everything(worker, stage), stage.model.rows())
        identity, row = next(iter(stage.model.rows().items()))
        event = await worker.event(*identity)
        assert event is not None
        assert event["content"] == row.content
        await worker.stop()
    store = await segments(stage)
    assert len(store.catalog) >= 2 * PARTITIONS
    assert store.catalog.problems == ()
    async with stage.worker("another", hot__data_dir=str(stage.folder / "another")) as worker:
        assert_same(await everything(worker, stage), stage.model.rows())
        answer = await worker.search(vector=[1.0] * 384, k=5)
        assert {plan["tier"] for plan in answer["plan"]} >= {"hot"}
        await worker.stop()


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_killed_with_and_without_its_disk_while_the_store_fails(stage: Stage, proxy: FaultProxy) -> None:
    """Faults on a fifth of the requests, kill -9 at random, every other time on a machine with an empty disk."""
    chance = random.Random(4)
    maker = Maker(4)
    proxy.schedule, proxy.hang_s = seeded(4, rate=0.2), 2.0
    data: list[Any] = [stage.folder / f"disk-{number}" for number in range(4)]
    for number, disk in enumerate(data):
        for _ in range(2):
            async with stage.worker(f"worker-{number}", hot__data_dir=str(disk)) as worker:
                for _ in range(3):
                    await stage.publish(maker.mixed(EVENTS))
                    await asyncio.sleep(chance.uniform(0.1, 1.0))
                worker.kill()
    proxy.schedule = no_faults
    async with stage.worker("last", hot__data_dir=str(stage.folder / "last")) as worker:
        assert_same(await everything(worker, stage), stage.model.rows())
        await until_spilled(worker)
        assert_same(await everything(worker, stage), stage.model.rows())
        await worker.stop()
    store = await segments(stage)
    assert store.catalog.problems == ()
    assert store.catalog.superseded == ()
    assert store.corrupt == {}
    assert len(store.catalog) >= 2 * PARTITIONS


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_without_its_worker_the_guides_storage_finds_what_was_left_to_the_store(stage: Stage) -> None:
    async with stage.worker() as worker:
        maker = Maker(5)
        for _ in range(5):
            await stage.publish(maker.mixed(EVENTS))
        await stage.until_searchable(worker)
        await until_spilled(worker)
        async with asyncio.timeout(60):
            while not list((stage.data / stage.topic).glob("*/*.stub")):
                await asyncio.sleep(0.1)
        assert_same(await everything(worker, stage), stage.model.rows())
        await worker.stop()
    rows = {identity: row.content for identity, row in stage.model.rows().items()}
    storage_settings = StorageSettings.load(stage.variables["AKASHA_STORAGE_SETTINGS"])
    async with VectorEmbeddingStorage(settings=stage.settings, storage_settings=storage_settings) as storage:

        async def found() -> dict[Identity, str]:
            hits = await storage.search_similar([1.0] * 384, limit=10_000, threshold=-1.0)
            assert len({(hit["source_system"], hit["id"]) for hit in hits}) == len(hits)
            return {(hit["source_system"], hit["id"]): hit["content"] for hit in hits}

        assert await found() == rows
        system, event_id = next(iter(rows))
        await storage.store_embedding(event_id, "replaced", [1.0] * 384, system)
        assert await found() == rows | {(system, event_id): "replaced"}


async def forget(stage: Stage, worker: WorkerProcess, system: str) -> dict[str, Any]:
    """The command, beside the worker."""
    names = {key: str(value) for key, value in stage.overrides.items()}
    variables = {f"AKASHA_{key.upper().replace('.', '__')}": value for key, value in names.items()}
    command = [sys.executable, "-m", "akasha_stream.cli", "forget", system, "--yes", "--url", worker.url, "--json"]
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        env={**os.environ, **stage.variables, **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


async def rows_in_store(stage: Stage, system: str) -> int:
    async with StorageTiers(StorageSettings.load(stage.variables["AKASHA_STORAGE_SETTINGS"])) as tiers:
        store = SegmentStore(tiers)
        await store.load(stage.topic)
        tables = [await store.read(segment, ["source_system"]) for segment in store.catalog.segments]
        return sum(table["source_system"].to_pylist().count(system) for table in tables)


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_forgotten_system_is_in_no_answer_and_in_no_file(stage: Stage) -> None:
    maker = Maker(7, systems=3)
    stage.overrides["tier_policy.check_s"] = 1.0
    async with stage.worker() as worker:
        for _ in range(5):
            await stage.publish(maker.mixed(EVENTS))
        await stage.until_searchable(worker)
        await until_spilled(worker)
        system = next(iter(stage.model.rows()))[0]
        assert await rows_in_store(stage, system) > 0
        report = await forget(stage, worker, system)
        assert report["complete"]
        new = replace(maker.new(1)[0], source_system=system, event_id="after", content="published afterwards")
        await stage.publish([new])
        later = dict(stage.model.rows())
        expected = {key: row for key, row in later.items() if key[0] != system or key[1] == "after"}
        assert len(expected) < len(later)
        assert_same(await everything(worker, stage), expected)
        # What was not spilled when it was forgotten is spilled without it, or rewritten right after.
        await until_spilled(worker)
        async with asyncio.timeout(60):
            while await rows_in_store(stage, system):
                await asyncio.sleep(0.5)
        folder = stage.data / stage.topic
        while any(contains(path, system, "after") for path in folder.rglob("*.arrow")):
            await asyncio.sleep(0.2)
        assert_same(await everything(worker, stage), expected)
        worker.kill()
    async with stage.worker("again") as worker:
        assert_same(await everything(worker, stage), expected)
    async with stage.worker("another", hot__data_dir=str(stage.folder / "another")) as worker:
        assert_same(await everything(worker, stage), expected)


def contains(path: Path, system: str, but: str) -> bool:
    """Whether a segment's file has a row of the system, besides one."""
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
            names = zip(table["source_system"].to_pylist(), table["event_id"].to_pylist(), strict=True)
            return any(name == system and event_id != but for name, event_id in names)
    except FileNotFoundError:
        return False


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_small_segments_are_compacted_and_old_ones_move_by_the_worker_itself(stage: Stage) -> None:
    stage.overrides |= {
        "tier_policy.check_s": 1.0,
        "tier_policy.age_of": "object",
        "tier_policy.warm_after_s": 2.0,
        "tier_policy.keep_searches": 0,
        "tier_policy.grace_s": 1.0,
        "compaction.fan_in": 2,
        "compaction.grace_s": 1.0,
    }
    maker = Maker(8)
    async with stage.worker() as worker:
        for _ in range(10):
            await stage.publish(maker.mixed(EVENTS))
            await stage.until_searchable(worker)
        await until_spilled(worker)
        async with asyncio.timeout(180):
            while True:
                store = await segments(stage)
                kept = [segment for segment in store.catalog.segments if segment.tier == "hot"]
                if not kept and not store.catalog.superseded and any(s.key.generation for s in store.catalog.segments):
                    break
                await asyncio.sleep(1)
        assert store.catalog.problems == ()
        assert_same(await everything(worker, stage), stage.model.rows())
        worker.kill()
    async with stage.worker("another", hot__data_dir=str(stage.folder / "another")) as worker:
        assert_same(await everything(worker, stage), stage.model.rows())
