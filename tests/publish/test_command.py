"""`akasha-stream publish`, as a process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from tests.publish.events import make_events, read_ids, wait_for_events
from tests.publish.test_sources import lines
from tests.publish.test_tables import table_of

if TYPE_CHECKING:
    from akasha_stream.embedded import Broker


class Command:
    """Runs the command against one broker and topic, with a state folder of its own."""

    def __init__(self, broker: Broker, topic: str, folder: Path) -> None:
        self._arguments = [sys.executable, "-m", "akasha_stream.cli", "publish", "--topic", topic]
        self.environment = {
            **os.environ,
            "XDG_STATE_HOME": str(folder / "state"),
            "AKASHA_BROKER__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        }

    async def start(self, *arguments: object) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        given = [*self._arguments, *map(str, arguments)]
        return await asyncio.create_subprocess_exec(*given, env=self.environment, stdin=pipe, stdout=pipe, stderr=pipe)

    async def run(self, *arguments: object, stdin: bytes = b"") -> tuple[int, str, str]:
        process = await self.start(*arguments)
        out, err = await process.communicate(stdin)
        return process.returncode or 0, out.decode(), err.decode()

    async def result(self, *arguments: object, stdin: bytes = b"") -> dict[str, Any]:
        """Its exit code says whether rows were refused."""
        code, out, err = await self.run(*arguments, "--json", stdin=stdin)
        found = last_object(out)
        assert code == (6 if found["refused"] else 0), err
        return found


def last_object(out: str) -> dict[str, Any]:
    found = json.loads(out.strip().splitlines()[-1])
    assert isinstance(found, dict)
    return found


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> Broker:
    """The embedded one, and Kafka where the test is about what survives."""
    found: Broker = request.getfixturevalue("kafka" if request.node.get_closest_marker("kafka") else "tansu")
    return found


@pytest.fixture
def command(broker: Broker, topic: str, tmp_path: Path) -> Command:
    return Command(broker, topic, tmp_path)


def write_parquet(path: Path, count: int) -> Path:
    pq.write_table(table_of(make_events(count, systems=5)), path, row_group_size=5_000)
    return path


async def test_a_file_is_published_once(broker: Broker, topic: str, command: Command, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "events.parquet", 1_000)
    would = await command.result(path, "--dry-run")
    assert (would["published"], would["dry_run"]) == (1_000, True)
    first = await command.result(path)
    assert (first["published"], first["skipped"], first["bad_rows"], first["read"]) == (1_000, 0, 0, 1_000)
    assert first["token"]
    assert first["bundles"] >= 16
    code, out, _ = await command.run(path)
    assert code == 0
    assert "read before        1,000" in out
    ids = await read_ids(broker.bootstrap_servers, topic)
    assert len(ids) == 1_000
    assert max(Counter(ids).values()) == 1


async def test_lines_come_from_stdin_in_json_bundles(broker: Broker, topic: str, command: Command) -> None:
    text = "".join(lines(20)) + "{broken\n"
    found = await command.result("-", "--format", "json", stdin=text.encode())
    assert (found["published"], found["bad_rows"], found["refused"]) == (20, 1, 1)
    assert found["bad_places"][0].startswith("line 21")
    assert len(await read_ids(broker.bootstrap_servers, topic)) == 20
    code, _, err = await command.run("-", "--strict", stdin=text.encode())
    assert code == 1
    assert "line 21" in err


async def test_limit_and_rate(command: Command, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "events.parquet", 1_000)
    found = await command.result(path, "--limit", 300, "--rate", 200)
    assert found["published"] == 300
    assert 1.2 < found["seconds"] < 4
    assert (await command.result(path))["published"] == 700


@pytest.mark.kafka
async def test_interrupted_and_resumed(broker: Broker, topic: str, command: Command, tmp_path: Path) -> None:
    """Ctrl-C: what is acknowledged counts; the next run goes on there and skips nothing."""
    path = write_parquet(tmp_path / "events.parquet", 3_000)
    published = 0
    for _ in range(2):
        process = await command.start(path, "--rate", 500, "--json")
        await wait_for_events(broker.bootstrap_servers, topic, published + 200)
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        assert process.returncode == 130, err.decode()
        found = last_object(out.decode())
        assert found["interrupted"]
        assert found["skipped"] == published
        published += found["published"]
        assert 0 < published < 3_000
        assert len(await read_ids(broker.bootstrap_servers, topic)) == published
    found = await command.result(path)
    assert (found["skipped"], found["published"]) == (published, 3_000 - published)
    assert sorted(Counter(await read_ids(broker.bootstrap_servers, topic)).values()) == [1] * 3_000


@pytest.mark.kafka
async def test_killed_and_resumed(broker: Broker, topic: str, command: Command, tmp_path: Path) -> None:
    """kill -9: what was acknowledged since the last checkpoint is published twice; nothing is skipped."""
    path = write_parquet(tmp_path / "events.parquet", 3_000)
    process = await command.start(path, "--rate", 500)
    await wait_for_events(broker.bootstrap_servers, topic, 900)
    process.kill()
    await process.communicate()
    found = await command.result(path)
    assert found["skipped"] + found["published"] == 3_000
    assert found["skipped"] > 0
    assert len(set(await read_ids(broker.bootstrap_servers, topic))) == 3_000


async def test_bad_lines_are_published_once_mended(command: Command, tmp_path: Path) -> None:
    events = [
        {"event_id": str(n), "source_system": "s", "content": f"text {n}", "embedding": [0.5] * 384} for n in range(3)
    ]
    path = tmp_path / "events.jsonl"
    short = {**events[1], "embedding": [0.5]}
    path.write_text("".join(json.dumps(each) + "\n" for each in (events[0], short, events[2])))
    code, _, err = await command.run(path)
    assert code == 6
    assert "mend them, and publish with --restart" in err
    found = await command.result(path)
    assert (found["published"], found["bad_rows"], found["left_out_before"]) == (0, 0, 1)
    path.write_text("".join(json.dumps(each) + "\n" for each in events))
    assert (await command.result(path, "--restart"))["published"] == 3


async def test_embeddings_are_made_where_they_are_missing(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = b'{"event_id": "1", "source_system": "s", "content": "a chess engine"}\n'
    monkeypatch.setitem(command.environment, "AKASHA_EMBEDDER__KIND", "python")
    monkeypatch.setitem(command.environment, "AKASHA_EMBEDDER__FACTORY", "tests.docs.embedder:Letters")
    found = await command.result("-", stdin=bare)
    assert (found["published"], found["embedded"], found["refused"]) == (1, 1, 0)
    left_out = await command.result("-", "--no-embed", stdin=bare)
    assert (left_out["published"], left_out["without_embedding"], left_out["refused"]) == (0, 1, 0)
    monkeypatch.setitem(command.environment, "AKASHA_EMBEDDER__KIND", "none")
    code, out, err = await command.run("-", stdin=bare)
    assert code == 6
    assert "without embedding: line 1: no embedding, and no embedder" in out
    assert "set embedder.kind" in err


async def test_errors_have_one_line_and_a_code(command: Command, tmp_path: Path, broker: Broker) -> None:
    path = write_parquet(tmp_path / "events.parquet", 3)
    for arguments, code, text in (
        (["nowhere.parquet"], 1, "nowhere.parquet"),
        ([path, "--column", "nonsense"], 2, "--column nonsense"),
        ([path, "--topic", "no-such-topic"], 4, "topics apply"),
    ):
        found, _, err = await command.run(*arguments)
        assert found == code, err
        assert text in err.strip().splitlines()[-1]
        assert "Traceback" not in err
