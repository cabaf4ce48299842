"""The recipes of docs/replay.md, run as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from akasha_stream.embedded import Broker
from akasha_stream.events.model import Event
from tests.docs.embedder import Letters
from tests.replay.commands import Commands
from tests.worker.model import Maker
from tests.worker.stage import Stage

pytestmark = pytest.mark.kafka

TEXT = (Path(__file__).parents[2] / "docs" / "replay.md").read_text()


def commands(heading: str, folder: Path, *options: str) -> list[list[str]]:
    """The command lines of a section, with directories in `folder`; `options` for those that ask the workers."""
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert section is not None
    found = [shlex.split(line) for line in re.findall(r"^\$ akasha-stream (.*)$", section[1], re.MULTILINE)]
    assert found
    lines = [[part.replace("/tmp/", f"{folder}/") for part in line] for line in found]
    return [line if "--data-dir" in line else [*line, *options] for line in lines]


def without_embeddings(event: Event, content: str) -> Event:
    return Event(event.event_id, event.source_system, content=content, embedding=event.embedding)


async def test_after_a_change_of_the_dedupe_window(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=2)
    async with stage.worker() as worker:
        await stage.publish(Maker(1).mixed(150))
        await stage.until_searchable(worker)
        await worker.stop()
    changed: dict[str, Any] = {"dedupe__window_s": 0.0}
    async with stage.worker(**changed) as worker:
        run = Commands(stage, capsys, **changed).run
        lines = commands("After a change of the dedupe window", tmp_path, "--url", worker.url, "--json")
        dry, done = [(await run(*line)).json for line in lines]
        assert dry["differences"] > 0
        assert dry["rows_changed"] == 0
        assert done["rows_changed"] > 0
        assert (await run(*lines[0])).json["differences"] == 0
        contents = {event.content for _, event in stage.model.log if event.op == "upsert"}
        stored = (await worker.get("/v1/stats")).json()["live_rows"]
        assert stored > len(contents & {row.content for row in stage.model.rows().values()})
        await worker.stop()
    rows, _ = await stage.stored()
    last = {(e.source_system, e.event_id): e for _, e in sorted(stage.model.log, key=lambda each: each[0])}
    assert {k: r.content for k, r in rows.items()} == {k: e.content for k, e in last.items() if e.op == "upsert"}


async def test_after_a_change_of_the_redaction_rules(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=1)
    events = [without_embeddings(e, f"case {i} of badge-{i:04d}") for i, e in enumerate(Maker(2).new(60))]
    async with stage.worker() as worker:
        await stage.publish(events)
        await stage.until_searchable(worker)
        await worker.stop()
    changed: dict[str, Any] = {"redaction__patterns": {"badge": r"badge-\d{4}"}}
    async with stage.worker(**changed) as worker:
        run = Commands(stage, capsys, **changed).run
        into, compare, replay = commands(
            "After a change of the redaction rules", tmp_path, "--url", worker.url, "--json"
        )
        await run(*into)
        assert (await run(*compare, code=1)).json["changed"] == 60
        found = (await run(*replay)).json
        assert found["differences"] == found["rows_changed"] == 60
        assert found["replays"][0]["effect"]["replaced"] == 60
        assert (await run(*compare)).json["equal"]
        await worker.stop()
    rows, _ = await stage.stored()
    assert {row.content for row in rows.values()} == {f"case {i} of [redacted:badge]" for i in range(60)}
    left = [path for path in stage.data.rglob("*") if path.is_file() and b"badge-0007" in path.read_bytes()]
    assert left == []


async def test_after_a_change_of_the_embedders_model(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=2)
    maker = Maker(3)
    async with stage.worker("old") as worker:
        await stage.publish(maker.new(60))
        await stage.until_searchable(worker)
        changed: dict[str, Any] = {"embedder__kind": "python", "embedder__factory": "tests.docs.embedder:Letters"}
        run = Commands(stage, capsys, **changed).run
        (into,) = commands("After a change of the embedder's model", tmp_path, "--json")
        assert (await run(*into)).json["events"] == 60
        some = stage.model.log[7][1]
        (hit,) = (await run("search", some.content, "-k", "1", "--data-dir", into[2], "--json")).json["hits"]
        assert (hit["event_id"], round(hit["similarity"], 4)) == (some.event_id, 1.0)
        await stage.publish(maker.new(20))
        await stage.until_searchable(worker)
        assert (await run(*into)).json["rows"] == 80
        await stage.publish(maker.new(5))
        await stage.until_searchable(worker)
        await worker.stop()
    async with stage.worker("new", hot__data_dir=into[2], **changed) as worker:
        await stage.until_searchable(worker)
        assert (await worker.get("/v1/stats")).json()["live_rows"] == 85
        found = await worker.event(some.source_system, some.event_id)
        assert found is not None
        assert found["model"] == "letters-2"
        await worker.stop()
    vector = (await Letters().embed(["x"]))[0]
    assert np.isclose(np.linalg.norm(vector), 1.0)


async def test_a_side_store(kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=2)
    async with stage.worker() as worker:
        await stage.publish(Maker(4).new(50))
        await stage.until_searchable(worker)
        (tmp_path / "query.json").write_text(str([1.0] * 384))
        run = Commands(stage, capsys).run
        lines = commands("Into a side store", tmp_path, "--url", worker.url, "--json")
        for line in lines:
            await run(*[str(tmp_path / part) if part == "query.json" else part for part in line])
        for line in commands("Replay", tmp_path, "--url", worker.url, "--json"):
            assert (await run(*line)).json["differences"] == 0
        await worker.stop()
