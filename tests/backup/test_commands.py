"""`akasha-stream backup …` on Kafka, without tiers: what it refuses, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from akasha_stream.embedded import Broker
from akasha_stream.topics.broker import add_partitions, admin_client, describe_topics, topic_configs
from tests.replay.commands import Commands
from tests.worker.model import Maker
from tests.worker.stage import Stage


@pytest.mark.kafka
async def test_what_is_there_and_differs_is_left_alone(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=2)
    await stage.publish(Maker(5).new(20))
    run = Commands(stage, capsys).run
    file, folder = tmp_path / "a.json", tmp_path / "restored"
    planned = (await run("backup", "create", str(file), "--dry-run", "--json")).json
    assert any("tiers.enabled is false" in note for note in planned["notes"])
    assert "there is no" in (await run("backup", "create", str(tmp_path / "no" / "a.json"), code=2)).err
    assert "No such file" in (await run("backup", "verify", str(file), code=2)).err
    made = (await run("backup", "create", str(file), "--json")).json
    assert made["bytes"] == file.stat().st_size
    same = (await run("backup", "verify", str(file), "--json")).json
    assert (same["ok"], same["findings"]) == (True, [])
    done = (await run("backup", "restore", str(file), "--files-to", str(folder), "--json")).json
    assert done["topics"] == []
    assert {path.name for path in (folder / "topics").iterdir()} == {
        "dead-letters.yml", "digests.yml", "embeddings.yml"
    }  # fmt: skip
    assert "Nothing is to be done" in (await run("backup", "restore", str(file), "--files-to", str(folder))).out

    (folder / "topics" / "digests.yml").write_text("name: mine\n")
    refused = await run("backup", "restore", str(file), "--files-to", str(folder), code=2)
    assert "digests.yml" in refused.err
    assert (folder / "topics" / "digests.yml").read_text() == "name: mine\n"

    async with admin_client(stage.settings.broker) as admin:
        await add_partitions(admin, stage.topic, 3)
        said = (await run("backup", "verify", str(file), "--json", code=5)).json
        assert [each["detail"] for each in said["findings"] if each["severity"] == "topics"] == [
            "partitions is 3, and was 2"
        ]
        (change,) = (await run("backup", "restore", str(file), "--json", code=5)).json["topics"]
        assert change["refused"]
        assert (await describe_topics(admin))[stage.topic].partitions == 3

        # Gone altogether, it comes back as it was, and its records do not.
        await admin.delete_topics([stage.topic])
        said = (await run("backup", "verify", str(file), "--json", code=1)).json
        lost = [each for each in said["findings"] if each["severity"] == "lost"]
        assert sum(end - start for each in lost for start, end in each["offsets"]) == sum(
            1 + max(place[1] for place, _ in stage.model.log if place[0] == partition) for partition in (0, 1)
        )
        dry = (await run("backup", "restore", str(file), "--dry-run", "--json")).json["topics"]
        assert [(each["kind"], each["topic"]) for each in dry] == [("create", stage.topic)]
        assert stage.topic not in await describe_topics(admin)
        await run("backup", "restore", str(file), "--no-topics", "--json")
        assert stage.topic not in await describe_topics(admin)
        await run("backup", "restore", str(file), "--json")
        assert (await describe_topics(admin))[stage.topic].partitions == 2
        assert await topic_configs(admin, [stage.topic], own=True) == {stage.topic: {"max.message.bytes": "16777216"}}

    file.write_bytes(file.read_bytes()[:-100])
    assert "its checksum is wrong" in (await run("backup", "verify", str(file), code=1)).err


async def test_of_the_embedded_broker_what_it_tells(
    tansu: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = await Stage.make(tansu, tmp_path, partitions=2)
    await stage.publish(Maker(6).new(20))
    run = Commands(stage, capsys).run
    made = (await run("backup", "create", str(tmp_path / "a.json"), "--json")).json
    assert [each["partitions"] for each in made["topics"]] == [2, 1, 1]
    assert (await run("backup", "verify", str(tmp_path / "a.json"), "--json")).json["ok"]
