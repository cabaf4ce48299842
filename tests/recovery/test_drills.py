"""The drills of docs/disaster-recovery.md, by the commands that stand there: on Kafka, a second one, and SeaweedFS."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from akasha_stream.embedded import Broker, SeaweedServer
from akasha_stream.events.model import Event
from akasha_stream.hot.schema import SegmentName
from akasha_stream.storage import StorageSettings, StorageTiers
from akasha_stream.storage.settings import TierName
from tests.replay.commands import Commands
from tests.servers.kafka import start_kafka
from tests.servers.topics import unique_name
from tests.worker.model import Identity, Maker, Model
from tests.worker.process import WorkerProcess
from tests.worker.stage import Stage
from tests.worker.test_tiers import backlog, storage_yaml

pytestmark = pytest.mark.kafka

TEXT = (Path(__file__).parents[2] / "docs" / "disaster-recovery.md").read_text()
TIERS: tuple[TierName, ...] = ("hot", "warm")
NEW_LOG = 1_000_000
"""Added to the offsets of a new Kafka: to the model, its records come after all of the old one's."""


@pytest.fixture(scope="module")
def new_kafka() -> Iterator[Broker]:
    """The Kafka after the disaster: empty, of another cluster id."""
    server = start_kafka()
    yield server
    server.stop()


@pytest.fixture
async def stage(kafka: Broker, seaweedfs: SeaweedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Segments go to the object store after a second, and leave the worker's disk."""
    stage = await Stage.make(
        kafka,
        tmp_path,
        partitions=2,
        hot__seal_age_s=1.0,
        hot__build_indexes=False,
        tiers__enabled=True,
        tiers__keep_local_s=0,
        tiers__keep_local_rows=0,
        search__max_k=10_000,
    )
    use_bucket(stage, seaweedfs, unique_bucket(), monkeypatch)
    return stage


def unique_bucket() -> str:
    return unique_name("drill").lower()


def use_bucket(stage: Stage, server: SeaweedServer, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = stage.folder / f"{bucket}.yml"
    file.write_text(storage_yaml(server.endpoint_url, server, bucket))
    stage.variables["AKASHA_STORAGE_SETTINGS"] = str(file)
    monkeypatch.setenv("AKASHA_STORAGE_SETTINGS", str(file))


def drill(heading: str, folder: Path) -> list[list[str]]:
    """The command lines of a drill, with the files in `folder`."""
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert section is not None
    lines = [shlex.split(line) for line in re.findall(r"^\$ (.*)$", section[1], re.MULTILINE)]
    return [[part.replace("/backups/", f"{folder}/").replace("/etc/", f"{folder}/") for part in line] for line in lines]


async def fill(stage: Stage, maker: Maker, worker: WorkerProcess, events: int) -> None:
    await stage.publish(maker.mixed(events))
    await stage.until_searchable(worker)
    async with asyncio.timeout(20):
        while not await spilled_all(stage, worker):
            await asyncio.sleep(0.2)


async def spilled_all(stage: Stage, worker: WorkerProcess) -> bool:
    """Whether all but an empty segment is in the object store."""
    partitions = (await worker.get("/v1/partitions")).json()["partitions"]
    for each in partitions:
        growing = (stage.data / stage.topic / f"{each['partition']:05d}").glob("*.growing.duckdb")
        names = [parsed[0] for path in growing if (parsed := SegmentName.parse(path.name)) is not None]
        if [name.start for name in names] != [each["next_offset"]]:
            return False
    return not await backlog(worker)


def brute_force(model: Model, next_offsets: Mapping[int, int] | None = None) -> dict[Identity, tuple[str, float]]:
    """Identity → (content, cosine to the query) of every live row, without any of the product's code."""
    events: dict[Any, Event] = dict(model.log)
    query = np.ones(384) / np.sqrt(384)
    return {
        identity: (row.content, float(query @ (v := events[row.place].embedding.astype(float)) / np.linalg.norm(v)))
        for identity, row in model.rows(next_offsets).items()
    }


async def assert_found(worker: WorkerProcess, token: str, expected: Mapping[Identity, tuple[str, float]]) -> None:
    answer = await worker.search(
        vector=[1.0] * 384, k=10_000, index="exact", fields=["content"], after=token, after_timeout_s=60
    )
    assert answer["complete"], answer["incomplete"]
    found = {(h["source_system"], h["event_id"]): (h["content"], h["similarity"]) for h in answer["hits"]}
    assert len(found) == len(answer["hits"])
    assert {k: content for k, (content, _) in found.items()} == {k: content for k, (content, _) in expected.items()}
    # Vectors are float16 in the object store.
    assert max(abs(found[k][1] - expected[k][1]) for k in expected) < 2e-3


async def copy_bucket(source: StorageSettings, target: StorageSettings, *, but: int = 0) -> None:
    """What `aws s3 sync` does; without the last `but` segments."""
    async with StorageTiers(source) as old, StorageTiers(target) as new:
        for tier in TIERS:
            here, there = source.tier(tier), target.tier(tier)
            reads, writes = await old.open(tier), await new.open(tier)
            await writes.ensure_bucket(there.bucket)
            paths = [each.path async for each in reads.list(here.bucket, here.prefix)]
            left_out = [path for path in paths if path.endswith(".parquet")][-but:] if but else []
            for path in paths:
                if path not in left_out:
                    await writes.upload(there.bucket, path, await reads.download(here.bucket, path))


def edit(file: Path, old: str, new: str) -> None:
    """What an operator changes in a restored file."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def moved(stage: Stage, broker: Broker) -> Stage:
    """The same stage on another Kafka, with what was lost taken out of the model by the test."""
    return replace(
        stage, broker=broker, overrides={**stage.overrides, "broker.bootstrap_servers": broker.bootstrap_servers}
    )


async def publish_anew(stage: Stage, events: list[Event], model: Model) -> None:
    """To the new Kafka; in the model after everything before."""
    stage.model = Model()
    await stage.publish(events)
    model.log += [
        ((partition, offset + NEW_LOG, index), event) for (partition, offset, index), event in stage.model.log
    ]


def spilled_ends(result: Mapping[str, Any]) -> dict[int, int]:
    return {each["partition"]: each["spilled_to"] or 0 for each in result["partitions"]}


async def test_drill_bucket_copied_elsewhere_and_a_new_kafka(
    stage: Stage,
    new_kafka: Broker,
    seaweedfs: SeaweedServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = drill("Drill: bucket copied elsewhere and a new Kafka", stage.folder)
    create, sync, without, again, restore, worker_line = lines
    maker = Maker(31)
    async with stage.worker() as worker:
        await fill(stage, maker, worker, 150)
        made = (await Commands(stage, capsys).run(*create[1:], "--json")).json
        assert made["rows"] > 0
        assert any("secret_access_key" in each for each in made["secrets_left_out"])
        await worker.stop()
    source = StorageSettings.load(stage.variables["AKASHA_STORAGE_SETTINGS"])
    assert sync[:3] == ["aws", "s3", "sync"]
    old_bucket, new_bucket = source.tier("hot").bucket, unique_bucket()
    use_bucket(stage, seaweedfs, new_bucket, monkeypatch)
    target = StorageSettings.load(stage.variables["AKASHA_STORAGE_SETTINGS"])
    await copy_bucket(source, target, but=1)
    after = moved(stage, new_kafka)
    run = Commands(after, capsys).run
    # A copy that was cut short: the segment is named.
    torn = (await run(*without[1:], "--json", code=1)).json
    assert [each["severity"] for each in torn["findings"] if each["severity"] in {"lost", "damaged"}] == [
        "lost",
        "damaged",
    ]
    await copy_bucket(source, target)
    assert (await run(*again[1:], "--json")).json["ok"]
    restored = (await run(*restore[1:], "--json")).json
    assert [each["kind"] for each in restored["topics"]] == ["create"] * 3
    assert (await run(*restore[1:], "--json")).json["files"] == []
    # What the restored files say counts, but for what is another at the other place, and the secrets.
    folder = Path(restore[restore.index("--files-to") + 1]) / "settings"
    (settings,) = folder.glob("settings-*.yml")
    storage = folder / f"{old_bucket}.yml"
    edit(settings, stage.broker.bootstrap_servers, new_kafka.bootstrap_servers)
    edit(settings, str(stage.data), str(stage.folder / "elsewhere"))
    edit(storage, old_bucket, new_bucket)
    values = {"access_key_id": seaweedfs.access_key_id, "secret_access_key": seaweedfs.secret_access_key}
    left_out = [key.rpartition(".")[2] for key in restored["secrets_left_out"]]
    variables = {f"AKASHA_S3_{tier.upper()}_{name.upper()}": value for tier in TIERS for name, value in values.items()}
    assert set(re.findall(r"\$\{(\w+)\}", storage.read_text())) == variables.keys()
    assert sorted(left_out) == sorted([*values] * len(TIERS))
    variables |= {"AKASHA_SETTINGS": str(settings), "AKASHA_STORAGE_SETTINGS": str(storage)}
    assert worker_line == ["akasha-stream", "worker"]
    async with WorkerProcess({}, stage.folder / "elsewhere.log", variables) as worker:
        model = Model(list(stage.model.log))
        await publish_anew(after, maker.mixed(60), model)
        await assert_found(worker, after.token, brute_force(model))
        await worker.stop()


async def test_drill_kafka_lost_but_the_bucket_is_there(
    stage: Stage, new_kafka: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    create, verify, restore, check, _ = drill("Drill: Kafka lost, the bucket there", stage.folder)
    maker = Maker(32)
    async with stage.worker() as worker:
        await fill(stage, maker, worker, 150)
        await worker.stop()
    spilled = {
        partition: 1 + max(place[1] for place, _ in stage.model.log if place[0] == partition) for partition in (0, 1)
    }
    lost = await stage.publish(maker.new(30))  # read by nobody before Kafka is gone
    await Commands(stage, capsys).run(*create[1:], "--json")
    after = moved(stage, new_kafka)
    run = Commands(after, capsys).run
    said = (await run(*verify[1:], "--json", code=1)).json
    losses = {each["subject"]: each["offsets"] for each in said["findings"] if each["severity"] == "lost"}
    assert losses == {
        f"{stage.topic}/{partition}": [
            [spilled[partition], 1 + max(d.offset for d in lost if d.partition == partition)]
        ]
        for partition in {each.partition for each in lost}
    }
    restored = (await run(*restore[1:], "--json")).json
    assert spilled_ends(restored) == spilled
    assert (await run(*check[1:], "--json", code=1)).json["findings"]
    # With the disk from before, which knows the old log.
    async with after.worker("after") as worker:
        kept = Model([entry for entry in stage.model.log if entry[0][1] < spilled[entry[0][0]]])
        await publish_anew(after, maker.mixed(60), kept)
        await assert_found(worker, after.token, brute_force(kept))
        # What was lost is published once more by those who have it.
        await publish_anew(after, [event for place, event in stage.model.log if place[1] >= spilled[place[0]]], kept)
        await assert_found(worker, after.token, brute_force(kept))
        await worker.stop()


async def test_drill_all_workers_lost(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    create, remove, verify, _, rebuild, search = drill("Drill: all workers lost", stage.folder)
    maker = Maker(33)
    async with stage.worker() as worker:
        await fill(stage, maker, worker, 150)
        await stage.publish(maker.mixed(60))  # on the disk and in Kafka, in no object yet
        await stage.until_searchable(worker)
        worker.kill()
    run = Commands(stage, capsys).run
    for line in drill("Backups", stage.folder):
        await run(*line[1:], "--json")
    assert "is there already" in (await run(*create[1:], code=2)).err
    Path(create[3]).unlink()
    await run(*create[1:], "--json")
    assert remove[:2] == ["rm", "-rf"]
    shutil.rmtree(stage.data)
    assert (await run(*verify[1:], "--json")).json["ok"]
    async with stage.worker("another") as worker:
        await assert_found(worker, stage.token, brute_force(stage.model))
        await worker.stop()
    # The same, made before a worker starts.
    shutil.rmtree(stage.data)
    made = (await run(*rebuild[1:], "--json")).json["shards"]
    assert sum(each["live_rows"] for each in made) == len(stage.model.rows())
    async with stage.worker("third") as worker:
        await assert_found(worker, stage.token, brute_force(stage.model))
        system, event_id = next(iter(stage.model.rows()))
        hits = (await run(*search[1:3], system + "/" + event_id, "--url", worker.url, "--json")).json["hits"]
        assert hits
        await worker.stop()
