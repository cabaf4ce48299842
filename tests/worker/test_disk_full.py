"""A full disk under the shards pauses ingest and loses nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from akasha_stream.embedded import Broker
from tests.worker.model import Maker
from tests.worker.process import WorkerProcess
from tests.worker.stage import Stage

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a tmpfs")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


async def test_disk_full_pauses_ingest_with_a_clear_error_and_goes_on_when_there_is_room(
    kafka: Broker, tmp_path: Path, small_disk: Path
) -> None:
    stage = await Stage.make(
        kafka, tmp_path, partitions=2, hot__data_dir=str(small_disk / "data"), ingest__retry_max_s=1.0
    )
    maker = Maker(4)
    ballast = small_disk / "ballast"
    async with stage.worker() as worker:
        paused = await until_paused(stage, worker, maker, ballast)
        assert "space" in paused["detail"].lower(), paused
        assert (await worker.get("/health/ready")).status_code == 503
        assert await worker.event("no", "such") is None
        answer = await worker.search(vector=maker.new(1)[0].embedding.tolist(), k=3)
        assert len(answer["hits"]) == 3, "what is stored stays searchable"
        await asyncio.sleep(1)
        assert worker.running
        ballast.unlink()
        await stage.until_searchable(worker)
        await until_hot_store(worker, ok=True)
        await worker.stop()
    await stage.assert_stored()


async def test_killed_while_the_disk_is_full(kafka: Broker, tmp_path: Path, small_disk: Path) -> None:
    stage = await Stage.make(
        kafka, tmp_path, partitions=2, hot__data_dir=str(small_disk / "data"), ingest__retry_max_s=1.0
    )
    maker = Maker(5)
    ballast = small_disk / "ballast"
    async with stage.worker() as worker:
        await until_paused(stage, worker, maker, ballast)
        worker.kill()
        ballast.unlink()
        await worker.start()
        await stage.until_searchable(worker)
        await worker.stop()
    await stage.assert_stored()


async def test_stopped_in_order_while_the_disk_is_full(kafka: Broker, tmp_path: Path, small_disk: Path) -> None:
    """The retries end when the worker is told to stop."""
    stage = await Stage.make(kafka, tmp_path, partitions=2, hot__data_dir=str(small_disk / "data"))
    maker = Maker(6)
    ballast = small_disk / "ballast"
    async with stage.worker() as worker:
        await until_paused(stage, worker, maker, ballast)
        assert await worker.stop() < 10
        ballast.unlink()
    async with stage.worker() as worker:
        await stage.until_searchable(worker)
        await worker.stop()
    await stage.assert_stored()


async def test_what_cannot_be_stored_stays_in_kafka_and_not_in_memory(
    kafka: Broker, tmp_path: Path, small_disk: Path
) -> None:
    """A worker that can't commit, or is slower than what comes, stops fetching: 128 runs are as much as it holds."""
    # A run is what one fetch returned of a partition.
    small: dict[str, Any] = {"ingest__fetch_bytes": 65_536, "publish__bundle_bytes": 32_768}
    data = str(small_disk / "data")
    stage = await Stage.make(kafka, tmp_path, partitions=2, hot__data_dir=data, ingest__retry_max_s=1.0, **small)
    maker = Maker(7)
    ballast = small_disk / "ballast"
    async with stage.worker() as worker:
        await until_paused(stage, worker, maker, ballast, unstored=100)
        before = worker.memory_bytes()
        most = before
        await stage.publish(maker.new(50_000))
        for _ in range(30):  # a second of fetching would have all of it
            await asyncio.sleep(0.1)
            most = max(most, worker.memory_bytes())
        backlog = 50_000 * 384 * 4
        assert most - before < backlog / 2, f"{(most - before) / 1e6:.0f} MB"
        subprocess.run(["mount", "-o", "remount,size=512m", small_disk], check=True)
        await stage.until_searchable(worker, 60)
        await worker.stop()
    await stage.assert_stored()


async def until_paused(
    stage: Stage, worker: WorkerProcess, maker: Maker, ballast: Path, *, unstored: int = 3_000
) -> dict[str, str]:
    """Some events are stored; then the disk is full, and `unstored` more come. The health of the hot store."""
    await stage.publish(maker.mixed(500))
    await stage.until_searchable(worker)
    fill(ballast)
    await stage.publish(maker.mixed(unstored))
    return await until_hot_store(worker, ok=False)


def fill(ballast: Path) -> None:
    """Leave no byte."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(65_536)) == 65_536:
                pass
            while file.write(bytes(512)):
                pass
        except OSError:
            return


async def until_hot_store(worker: WorkerProcess, *, ok: bool) -> dict[str, str]:
    deadline = time.monotonic() + 20
    while True:
        found: dict[str, str] = (await worker.health())["hot_store"]
        if bool(found["ok"]) is ok:
            return found
        assert time.monotonic() < deadline, f"{found}\n{worker.logged()[-3000:]}"
        await asyncio.sleep(0.1)
