"""`akasha-stream rebuild shard | lookups` on Kafka, an object store that is a folder, and Valkey."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from akasha_stream.embedded import Broker, ValkeyServer
from akasha_stream.lookups.connection import connect
from akasha_stream.lookups.tables import Keys
from tests.replay.commands import Commands
from tests.worker.model import Maker
from tests.worker.process import ROOT
from tests.worker.stage import Stage, assert_same
from tests.worker.test_tiers import everything, until_spilled

pytestmark = pytest.mark.kafka


async def test_a_damaged_shard_is_made_again_from_kafka(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=2)
    run = Commands(stage, capsys).run
    async with stage.worker() as worker:
        await stage.publish(Maker(1).mixed(200))
        await stage.until_searchable(worker)
        assert "stop it" in (await run("rebuild", "shard", "0", code=1)).err
        await worker.stop()
    (file,) = (stage.data / stage.topic / "00001").glob("*.growing.duckdb")
    file.write_bytes(b"no database" * 1000)
    planned = (await run("rebuild", "shard", "0", "1", "--dry-run", "--json")).json["shards"]
    assert [each["unreadable"] is None for each in planned] == [True, False]
    assert [each["live_rows"] for each in planned] == [None, None]
    assert file.read_bytes().startswith(b"no database")
    done = (await run("rebuild", "shard", "0", "1", "--json")).json["shards"]
    assert done[0]["changed"] == {"came": 0, "went": 0, "changed": 0}
    assert sum(each["live_rows"] for each in done) == len(stage.model.rows())
    assert "live rows" in (await run("rebuild", "shard", "1")).out
    await stage.assert_stored()
    assert "no partition 7" in (await run("rebuild", "shard", "7", code=2)).err
    # What retention has removed is nowhere but in the files.
    await stage.delete_records({0: 1})
    refused = await run("rebuild", "shard", "0", code=2)
    assert "offsets [0, 1)" in refused.err
    assert "--accept-loss" in refused.err
    await stage.assert_stored()


async def test_killed_while_a_shard_is_rebuilt_it_is_whole(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=1)
    await stage.publish(Maker(4).mixed(120))
    commands = Commands(stage, capsys)
    (first,) = (await commands.run("rebuild", "shard", "0", "--json")).json["shards"]  # there is none yet
    assert first["live_rows"] == len(stage.model.rows())
    for step in ("committed", "old shard set aside", "new shard in place"):
        command = [sys.executable, "-m", "tests.rebuild.killed", step, "1", "--settings", str(commands.file)]
        done = await asyncio.to_thread(
            subprocess.run, [*command, "rebuild", "shard", "0"], cwd=ROOT, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        await stage.assert_stored()
    (last,) = (await commands.run("rebuild", "shard", "0", "--json")).json["shards"]
    assert last["changed"] == {"came": 0, "went": 0, "changed": 0}
    assert not (stage.data / stage.topic / "replays" / "00000").exists()


async def test_a_shard_is_made_again_from_the_object_store_and_kafka(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = await Stage.spilling(kafka, tmp_path, partitions=1, search__max_k=10_000)
    monkeypatch.setenv("AKASHA_STORAGE_SETTINGS", stage.variables["AKASHA_STORAGE_SETTINGS"])
    maker = Maker(2)
    async with stage.worker() as worker:
        await stage.publish(maker.mixed(150))
        await stage.until_searchable(worker)
        async with asyncio.timeout(30):
            while not list((stage.data / stage.topic).glob("*/*.stub")):
                await asyncio.sleep(0.1)
        await until_spilled(worker)
        await worker.stop()
    run = Commands(stage, capsys).run
    (planned,) = (await run("rebuild", "shard", "0", "--dry-run", "--json")).json["shards"]
    assert planned["segments"] >= 1
    await stage.delete_records({0: planned["start"]})
    await stage.publish(maker.mixed(150))
    for file in (stage.data / stage.topic / "00000").iterdir():
        file.write_bytes(b"damaged")
    (done,) = (await run("rebuild", "shard", "0", "--json")).json["shards"]
    assert (done["start"], done["stored_rows"] > 0, done["events"]) == (planned["start"], True, 150)
    async with stage.worker() as worker:
        assert_same(await everything(worker, stage), stage.model.rows())
        await worker.stop()


@pytest.mark.valkey
async def test_tables_are_made_again_by_the_workers_or_from_the_directory(
    kafka: Broker, valkey: ValkeyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=2, valkey=valkey.url)
    run = Commands(stage, capsys).run
    client, keys = connect(stage.settings.redis), Keys(stage.topic, stage.topic)

    async def spoil() -> str:
        """An identity that is not stored; its table says that it is complete."""
        system = os.fsdecode((await client.smembers(keys.systems(0))).pop())
        await client.hset(keys.ids(0, system), "never-stored", 5)
        return keys.ids(0, system)

    async with stage.worker() as worker:
        await stage.publish(Maker(3).mixed(150))
        await stage.until_searchable(worker)
        await run("rebuild", "lookups", "--json")
        spoilt = await spoil()
        tables = (await run("rebuild", "lookups", "--json")).json["tables"]
        assert [(each["partition"], each["by"]) for each in tables] == [(0, "worker"), (1, "worker")]
        assert sum(each["identities"] for each in tables) == len(stage.model.rows())
        assert not await client.hexists(spoilt, "never-stored")
        await worker.stop()
    spoilt = await spoil()
    (table,) = (await run("rebuild", "lookups", "--partition", "0", "--json")).json["tables"]
    assert table["by"] == "data directory"
    assert not await client.hexists(spoilt, "never-stored")
    assert "no worker has it" in (await run("rebuild", "lookups", "--partition", "9", code=1)).err
    assert (
        "there are no tables"
        in (await Commands(stage, capsys, redis__enabled=False).run("rebuild", "lookups", code=2)).err
    )
    await client.aclose()
