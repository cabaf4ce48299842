"""Replays on Kafka: into shards that workers have, into a directory without one, into a side store."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from akasha_stream.embedded import Broker
from akasha_stream.events.model import Event
from akasha_stream.events.records import Record
from akasha_stream.replay import job
from akasha_stream.replay.check import Check
from akasha_stream.replay.job import Replay
from akasha_stream.topics.reader import TopicReader
from tests.replay.commands import Commands
from tests.replay.pace_clock import PaceClock
from tests.worker.model import Maker
from tests.worker.process import WorkerProcess
from tests.worker.stage import Stage

pytestmark = pytest.mark.kafka

OFF: dict[str, Any] = {"dedupe__window_s": 0.0}


async def until(what: Callable[[], Awaitable[bool]], timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await what():
            await asyncio.sleep(0.1)


async def test_shards_that_have_the_events_stay_as_they_are(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=2)
    maker = Maker(1)
    async with stage.worker() as worker:
        await stage.publish(maker.mixed(200))
        await stage.until_searchable(worker)
        run = Commands(stage, capsys).run
        at = ("--url", worker.url, "--json")
        for only in (["--dry-run"], []):
            found = (await run("replay", *only, *at)).json
            assert (found["events"], found["differences"], found["rows_changed"]) == (200, 0, 0)
            assert [each["rebuilt_from"] for each in found["replays"]] == [None, None]
        records = {each["partition"]: each["effect"]["records"] for each in found["replays"]}
        times = [each["effect"][name] for each in found["replays"] for name in ("first_ms", "last_ms")]

        async def counted(*options: str) -> dict[int, int]:
            found = (await run("replay", *options, *at)).json
            assert found["differences"] == 0
            return {each["partition"]: each["effect"]["records"] for each in found["replays"]}

        assert await counted("--last", "3") == {p: min(3, n) for p, n in records.items()}
        assert await counted("--partition", "1", "--from", "1:2", "--until", "5") == {1: 3}
        assert await counted("--until", datetime.fromtimestamp(min(times) / 1000, UTC).isoformat()) == {}
        assert await counted("--from", datetime.fromtimestamp(min(times) / 1000, UTC).isoformat()) == records
        one = (await run("replay", "--system", "system-3", *at)).json
        assert one["events"] == sum(event.source_system == "system-3" for _, event in stage.model.log)
        said = await run("replay", "--dry-run", "--url", worker.url)
        assert "nothing differs: no row changed" in said.out
        assert "appended from " in said.out
        assert (await run("replay", "status", *at)).json["done"]
        await run("replay", "--partition", "7", *at, code=2)
        await run("replay", "--from", "5", "--until", "2", *at, code=2)
        await worker.stop()
    await stage.assert_stored()


async def test_a_shard_is_made_anew_while_it_is_searched_and_written_to(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=2, hot__seal_rows=1000)
    maker = Maker(2)
    async with stage.worker("first") as worker:
        await stage.publish(maker.mixed(300))
        await stage.until_searchable(worker)
        await worker.stop()
    async with stage.worker("second", **OFF) as worker:
        run = Commands(stage, capsys, **OFF).run
        dropped = (await run("replay", "--dry-run", "--url", worker.url, "--json")).json
        assert dropped["differences"] > 0
        assert dropped["rows_changed"] == 0
        replaying = asyncio.create_task(run("replay", "--url", worker.url, "--json"))
        await stage.publish(maker.new(50))
        found = (await replaying).json
        assert found["rows_changed"] > 0
        assert all(each["rebuilt_from"] == 0 and each["phase"] == "done" for each in found["replays"])
        await stage.until_searchable(worker)
        again = (await run("replay", "--url", worker.url, "--json")).json
        assert (again["differences"], again["rows_changed"]) == (0, 0)
        await worker.stop()
    rows, _ = await stage.stored()
    expected = without_content_dedupe(stage)
    assert {identity: row.content for identity, row in rows.items()} == expected
    assert not list(stage.data.glob("*/replays/*/*"))


def without_content_dedupe(stage: Stage) -> dict[tuple[str, str], str]:
    live: dict[tuple[str, str], str] = {}
    for _, event in sorted(stage.model.log, key=lambda each: each[0]):
        identity = (event.source_system, event.event_id)
        if event.op == "delete":
            live.pop(identity, None)
        else:
            live[identity] = event.content
    return live


@pytest.mark.timeout(240)
async def test_a_replay_goes_on_after_its_worker_was_killed(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=2)
    async with stage.worker("first") as worker:
        await stage.publish(Maker(3).mixed(400))
        await stage.until_searchable(worker)
        await worker.stop()
    run = Commands(stage, capsys, **OFF).run
    for step in ("history shared", "old shard set aside", "new shard in place"):
        stage.variables["KILL_AT"] = step
        dying = stage.worker(step.replace(" ", "-"), **OFF)
        dying.launch()
        if step == "history shared":
            await dying.ready()
            async with httpx.AsyncClient(base_url=dying.url, verify=False) as client:
                for partition in range(2):
                    await client.post("/v1/replays", json={"partition": partition, "start": 0})

        async def gone(dying: WorkerProcess = dying) -> bool:
            return not dying.running

        await until(gone)
        dying.kill()
    stage.variables.clear()
    async with stage.worker("last", **OFF) as worker:

        async def done() -> bool:
            found = (await run("replay", "status", "--url", worker.url, "--json")).json
            return len(found["replays"]) == 2 and bool(found["done"])

        await until(done)
        assert (await run("replay", "--url", worker.url, "--json")).json["differences"] == 0
        await worker.stop()
    rows, _ = await stage.stored()
    assert {identity: row.content for identity, row in rows.items()} == without_content_dedupe(stage)


async def test_paused_resumed_and_cancelled(kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=1)
    async with stage.worker() as worker:
        await stage.publish(Maker(4).new(300))
        await stage.until_searchable(worker)
        run = Commands(stage, capsys).run
        at = ("--url", worker.url, "--json")

        async def state() -> dict[str, Any]:
            answer = (await worker.get("/v1/replays")).json()["replays"]
            found: dict[str, Any] = answer[0] if answer else {"phase": None}
            return found

        async def checking() -> bool:
            return bool((await state())["phase"] == "checking")

        slow = asyncio.create_task(run("replay", "--rate", "1", *at))
        await until(checking)
        assert (await run("replay", "pause", *at)).json["replays"][0]["paused"]
        paused = await state()
        await run("replay", "--last", "3", *at, code=2)
        assert not (await run("replay", "resume", *at)).json["replays"][0]["paused"]
        assert (paused["phase"], paused["paused"], paused["rate"]) == ("checking", True, 1)
        # The same again goes on with it, as fast as is asked for now.
        assert (await run("replay", *at)).json["replays"][0]["effect"]["events"] == 300
        assert (await slow).json["done"]
        assert (await state())["rate"] is None
        another = asyncio.create_task(run("replay", "--from", "1", "--rate", "1", *at, code=1))
        await until(checking)
        assert (await run("replay", "cancel", *at)).json["replays"][0]["phase"] == "cancelled"
        assert (await another).json["replays"][0]["phase"] == "cancelled"
        await worker.stop()
    await stage.assert_stored()


async def test_a_directory_that_no_worker_runs_on(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=2)
    async with stage.worker() as worker:
        await stage.publish(Maker(5).mixed(200))
        await stage.until_searchable(worker)
        await worker.stop()
    run = Commands(stage, capsys, **OFF, http__port=9).run
    assert (await run("replay", "--dry-run", "--json")).json["differences"] > 0
    found = (await run("replay", "--json")).json
    assert found["rows_changed"] > 0
    assert (await run("replay", "--json")).json["differences"] == 0
    rows, _ = await stage.stored()
    assert {identity: row.content for identity, row in rows.items()} == without_content_dedupe(stage)


async def test_a_rate_limits_what_is_judged_and_what_is_made_anew(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a worker, so that it is this process that waits; on the pace's own clock."""
    stage = await Stage.make(kafka, tmp_path, partitions=2)
    async with stage.worker() as worker:
        await stage.publish(Maker(9).mixed(200))
        await stage.until_searchable(worker)
        await worker.stop()
    clock = PaceClock.put(monkeypatch)
    run = Commands(stage, capsys, http__port=9).run
    assert (await run("replay", "--json")).json["events"] == 200
    assert clock.slept == 0
    assert (await run("replay", "--rate", "4", "--json")).json["rows_changed"] == 0
    assert clock.slept >= 200 / 4 - 1e-6
    clock.slept = 0
    found = (await Commands(stage, capsys, **OFF, http__port=9).run("replay", "--rate", "4", "--json")).json
    assert found["rows_changed"] > 0
    judged = [each["effect"]["events"] for each in found["replays"]]
    # Each shard is one segment: what differs is made anew from its start.
    anew = [each["effect"]["events"] for each in found["replays"] if each["rebuilt_from"] == 0]
    assert clock.slept >= (sum(judged) + sum(anew)) / 4 - 1e-6


async def test_a_rate_that_comes_while_a_shard_is_judged_counts_from_then_on(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=1)
    async with stage.worker() as worker:
        await stage.publish(Maker(11).new(200))
        await stage.until_searchable(worker)
        await worker.stop()
    clock = PaceClock.put(monkeypatch)
    records, judge, judged = job._records, Replay._judge, [0]

    async def one_by_one(reader: TopicReader, partition: int, start: int, end: int) -> AsyncIterator[list[Record]]:
        async for found in records(reader, partition, start, end):
            for record in found:
                yield [record]

    def changed_on_the_way(self: Replay, check: Check, found: list[Record]) -> None:
        judge(self, check, found)
        judged.append(check.effect.events)
        if judged[-1] >= 150 > judged[-2]:  # as Replays.start does for the same replay, asked for with a rate
            self.state.rate = 4
            self.pace.change(4)

    monkeypatch.setattr(job, "_records", one_by_one)
    monkeypatch.setattr(Replay, "_judge", changed_on_the_way)
    run = Commands(stage, capsys, http__port=9).run
    assert (await run("replay", "--json")).json["events"] == 200
    since = 200 - max(events for events in judged if events < 150)
    assert clock.slept == pytest.approx(since / 4)


async def test_a_rate_limits_a_replay_into_a_side_store(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=2)
    await stage.publish(Maker(10).mixed(200))
    clock = PaceClock.put(monkeypatch)
    run = Commands(stage, capsys).run
    assert (await run("replay", "--into", str(tmp_path / "fast"), "--json")).json["events"] == 200
    assert clock.slept == 0
    slow = tmp_path / "slow"
    assert (await run("replay", "--into", str(slow), "--rate", "4", "--json")).json["events"] == 200
    assert clock.slept >= 200 / 4 - 1e-6
    await in_folder(stage, slow).assert_stored()


def in_folder(stage: Stage, folder: Path) -> Stage:
    return replace(stage, overrides={**stage.overrides, "hot.data_dir": str(folder)})


async def test_a_side_store_is_compared_and_searched(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=2)
    maker = Maker(6)
    async with stage.worker() as worker:
        await stage.publish(maker.mixed(200))
        await stage.until_searchable(worker)
        side, at = tmp_path / "side", ("--url", worker.url, "--json")
        run = Commands(stage, capsys).run
        assert (await run("replay", "--into", str(side), "--json")).json["events"] == 200
        equal = (await run("replay", "compare", str(side), *at)).json
        assert equal["equal"]
        assert equal["same"] == len(stage.model.rows())
        vector = next(event for _, event in stage.model.log if event.op == "upsert").embedding
        (tmp_path / "v.json").write_text(str(vector.tolist()))
        search = ("search", "--vector", str(tmp_path / "v.json"), "-k", "5", "--json")
        there = (await run(*search, "--data-dir", str(side))).json["hits"]
        assert there == (await run(*search, "--url", worker.url)).json["hits"]
        # The same again goes on where it was, with what came since.
        await stage.publish(maker.new(10))
        await stage.until_searchable(worker)
        assert (await run("replay", "--into", str(side), "--json")).json["events"] == 10
        assert (await run("replay", "--into", str(side), "--json")).json["events"] == 0
        await run("replay", "--into", str(side), "--last", "2", "--json", code=2)
        await run("replay", "--into", str(tmp_path), "--json", code=2)
        other = tmp_path / "other"
        without = Commands(stage, capsys, **OFF).run
        assert (await without("replay", "--into", str(other), "--json")).json["outcomes"].get("duplicate_content") == 0
        differs = (await run("replay", "compare", str(other), *at, code=1)).json
        assert differs["only_in_side"] > 0
        assert {each["kind"] for each in differs["examples"]} >= {"only_in_side"}
        assert "only in side" in (await run("replay", "compare", str(other), "--url", worker.url, code=1)).out
        one = tmp_path / "one"
        await run("replay", "--into", str(one), "--system", "system-3", "--json")
        assert (await run("replay", "compare", str(one), *at)).json["same"] == sum(
            system == "system-3" for system, _ in stage.model.rows()
        )
        await worker.stop()


async def test_an_old_version_never_replaces_a_newer_one(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=1)
    at = datetime.now(UTC) - timedelta(minutes=1)

    def version(number: int, event_id: str = "e") -> Event:
        vector = np.array([1.0] * 383 + [number], np.float32)
        return Event(event_id=event_id, source_system="s", content=f"v{number}", embedding=vector, created_at=at)

    async with stage.worker() as worker:
        for events in ([version(1), version(7, "gone")], [version(2)], [Event.delete("s", "gone")]):
            await stage.publish(events)
        await stage.until_searchable(worker)
        run = Commands(stage, capsys).run
        found = (await run("replay", "--until", "1", "--url", worker.url, "--json")).json
        assert (found["events"], found["rows_changed"]) == (2, 0)
        event = await worker.event("s", "e")
        assert event is not None
        assert event["content"] == "v2"
        assert await worker.event("s", "gone") is None
        await worker.stop()
    await stage.assert_stored()


async def test_ctrl_c_pauses_and_the_same_command_goes_on(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=1)
    async with stage.worker() as worker:
        await stage.publish(Maker(7).new(100))
        await stage.until_searchable(worker)
        commands = Commands(stage, capsys)
        line = [sys.executable, "-m", "akasha_stream.cli", "--settings", str(commands.file), "replay", "--rate", "1"]
        process = await asyncio.create_subprocess_exec(*line, "--url", worker.url, stderr=asyncio.subprocess.PIPE)

        async def state(name: str) -> Any:
            answer = (await worker.get("/v1/replays")).json()["replays"]
            return answer[0][name] if answer else None

        async def checking() -> bool:
            return bool(await state("phase") == "checking")

        await until(checking)
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
        assert process.returncode == 130, errors
        assert b"akasha-stream replay resume" in errors
        assert await state("paused")
        assert (await commands.run("replay", "--url", worker.url, "--json")).json["done"]
        await worker.stop()


def into_side(commands: Commands, side: Path, *options: str) -> list[str]:
    settings = ["--settings", str(commands.file)]
    return [sys.executable, "-m", "akasha_stream.cli", *settings, "replay", "--into", str(side), *options]


async def begun(side: Path, stage: Stage) -> None:
    async def has_a_shard() -> bool:
        return (side / stage.topic / "00000").is_dir()

    await until(has_a_shard)


async def test_ctrl_z_and_fg_pause_a_replay_into_a_directory(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, side = await Stage.make(kafka, tmp_path, partitions=2), tmp_path / "side"
    await stage.publish(Maker(12).new(80))
    # Slow enough to be stopped on the way. In a process group of its own, as a shell runs it: Ctrl-Z stops the group.
    process = await asyncio.create_subprocess_exec(
        *into_side(Commands(stage, capsys), side, "--rate", "10", "--json"),
        stdout=asyncio.subprocess.PIPE,
        process_group=0,
    )

    async def stopped() -> bool:
        return psutil.Process(process.pid).status() == psutil.STATUS_STOPPED

    def files() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in side.rglob("*")}

    try:
        await begun(side, stage)
        os.killpg(process.pid, signal.SIGTSTP)
        await until(stopped)
        found = files()
        await asyncio.sleep(1)
        assert await stopped()
        assert files() == found
        os.killpg(process.pid, signal.SIGCONT)
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    assert json.loads(said.splitlines()[-1])["events"] == 80
    await in_folder(stage, side).assert_stored()


async def test_ctrl_c_ends_a_replay_into_a_directory_and_the_same_command_goes_on(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, side = await Stage.make(kafka, tmp_path, partitions=2), tmp_path / "side"
    await stage.publish(Maker(13).new(80))
    commands = Commands(stage, capsys)
    # At this rate the first partition alone takes a minute.
    process = await asyncio.create_subprocess_exec(
        *into_side(commands, side, "--rate", "0.5"), stderr=asyncio.subprocess.PIPE
    )
    try:
        await begun(side, stage)
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 130, errors
    assert b"it goes on with the same command again" in errors
    # The rate is none of what a directory holds: the same without it is the same.
    assert (await commands.run("replay", "--into", str(side), "--json")).json["rows"] == 80
    await in_folder(stage, side).assert_stored()
