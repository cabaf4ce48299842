"""GET /v1/worker and /v1/overview of real workers: the figures are those of what was published."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from akasha_stream.embedded import Broker, ValkeyServer
from tests.publish.events import make_events
from tests.worker.process import WorkerProcess
from tests.worker.stage import Stage


async def overview(worker: WorkerProcess) -> dict[str, Any]:
    found: dict[str, Any] = (await worker.get("/v1/overview")).raise_for_status().json()
    return found


async def figures(worker: WorkerProcess) -> dict[str, Any]:
    found: dict[str, Any] = (await worker.get("/v1/worker")).raise_for_status().json()
    return found


@pytest.mark.valkey
async def test_every_worker_tells_of_all_of_them(tansu: Broker, valkey: ValkeyServer, tmp_path: Path) -> None:
    stage = await Stage.make(tansu, tmp_path, partitions=4, valkey=valkey.url, redis__heartbeat_s=0.3)
    async with stage.worker("one") as one, stage.worker("two", hot__data_dir=str(tmp_path / "two")) as two:
        async with asyncio.timeout(90):
            while True:
                found = await overview(one)
                if len(found["workers"]) == 2 and all(len(each["partitions"]) == 2 for each in found["workers"]):
                    break
                await asyncio.sleep(0.2)
        assert [each["url"] for each in found["workers"] if each["answering"]] == [one.url]
        assert sorted(p for each in found["workers"] for p in each["partitions"]) == [0, 1, 2, 3]
        assert all(each["figures"]["ready"] for each in found["workers"])
        assert found["notes"] == []
        # What one can't reach is named with the reason, and the answer comes all the same.
        two.pause()
        try:
            async with asyncio.timeout(60):
                while (other := _other(await overview(one), one))["error"] is None:
                    await asyncio.sleep(0.2)
        finally:
            two.resume()
        assert "did not answer" in other["error"]
        assert other["figures"] is None


def _other(found: dict[str, Any], one: WorkerProcess) -> dict[str, Any]:
    gone = {"error": "did not answer: gone from the registry", "figures": None}
    return next((each for each in found["workers"] if each["url"] != one.url), gone)


@pytest.mark.valkey
async def test_figures_of_what_was_published(tansu: Broker, valkey: ValkeyServer, tmp_path: Path) -> None:
    stage = await Stage.spilling(
        tansu,
        tmp_path,
        partitions=2,
        valkey=valkey.url,
        dedupe__window_s=1e9,
    )
    async with stage.worker() as worker:
        await stage.publish(make_events(60))
        await stage.publish(make_events(60))
        await stage.until_searchable(worker)
        found = await figures(worker)
        assert found["outcomes"]["stored"] == 60
        assert sum(found["outcomes"].values()) == 120
        assert found["freshness"]["commits"] > 0
        assert found["freshness"]["p50_s"] <= found["freshness"]["p99_s"]
        assert found["embedder"] is None
        async with asyncio.timeout(60):
            while not _spilled(found := await figures(worker)):
                await asyncio.sleep(0.2)
        for partition in found["partitions"]:
            segments = partition["segments"]
            assert partition["live_rows"] == sum(each["live_rows"] for each in segments)
            assert segments[-1]["end"] == partition["next_offset"]
            assert all(before["end"] <= after["start"] for before, after in pairwise(segments))
        spilled = _spilled(found)
        assert sum(each["bytes"] for each in spilled) > 1000
        assert {each["tier"] for each in spilled} == {"hot"}
        assert sum(partition["live_rows"] for partition in found["partitions"]) == 60


def _spilled(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for partition in found["partitions"] for each in partition["segments"] if each["kind"] == "spilled"]


async def test_without_redis_the_group_tells_who_there_is(tansu: Broker, tmp_path: Path) -> None:
    stage = await Stage.make(tansu, tmp_path, partitions=2)
    async with stage.worker("one") as one, stage.worker("two", hot__data_dir=str(tmp_path / "two")) as two:
        async with asyncio.timeout(90):
            found = await overview(one)
            while sum(each["figures"] is not None for each in found["workers"]) < 2:
                await asyncio.sleep(0.2)
                found = await overview(one)
        assert {each["url"] for each in found["workers"]} == {one.url, two.url}
        assert found["notes"] == []


async def test_the_endpoints_are_documented(tansu: Broker, tmp_path: Path) -> None:
    stage = await Stage.make(tansu, tmp_path, partitions=1)
    async with stage.worker() as worker:
        document = json.loads((await worker.get("/openapi.json")).text)
    for path in ("/v1/worker", "/v1/overview", "/v1/map", "/v1/dead-letters", "/v1/dead-letters/requeue"):
        assert path in document["paths"]
    asked = document["paths"]["/v1/dead-letters/requeue"]["post"]["requestBody"]["content"]["application/json"]
    assert asked["examples"]
    assert asked["schema"]["$ref"].rpartition("/")[2] in document["components"]["schemas"]
