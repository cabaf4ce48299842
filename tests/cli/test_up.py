"""`up --embedded` and `worker` as a user runs them."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from akasha_stream.cli.up import watch_servers
from akasha_stream.client import SyncAkashaClient
from akasha_stream.demo.sample import events, sample
from akasha_stream.embedded import TansuServer
from akasha_stream.embedded.together import Servers
from akasha_stream.embedded.valkey import ValkeyServer
from akasha_stream.publish.delivery import merge_tokens
from akasha_stream.publish.sync import SyncPublisher
from akasha_stream.settings import Settings
from akasha_stream.topics.admin import ensure_topics
from tests.cli.processes import descendants, left_of, start
from tests.cli.running import run


@pytest.mark.valkey
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 0), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_up_embedded_takes_events_answers_and_leaves_nothing(tmp_path: Path, number: int, code: int) -> None:
    process = start("up", "--embedded", "--port", "0", "--json", cwd=tmp_path)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["event"] == "ready"
        assert ready["pid"] == process.pid
        servers = descendants(process)
        assert len(servers) == 2
        events_sent = events(sample(20))
        found = Settings.load(overrides={"broker.bootstrap_servers": ready["bootstrap_servers"]})
        with SyncPublisher(found) as publisher:
            token = merge_tokens(publisher.publish_many(events_sent))
        with SyncAkashaClient(ready["url"]) as client:
            hit = client.search(vector=events_sent[3].embedding, k=1, after=token).hits[0]
            assert hit.event_id == events_sent[3].event_id
            assert client.get(hit.source_system, hit.event_id).answered_from in {"lookups", "shard"}
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code, err
    assert out == ""
    assert not [line for line in err.splitlines() if '"level": "error"' in line]
    assert left_of(servers) == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("akasha-")] == []


@pytest.mark.valkey
@pytest.mark.slow
def test_up_says_what_runs_where_at_80_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any folder: braces mean something to Faust, and a dollar to our settings."""
    process = start("up", "--embedded", "--port", "0", "--data-dir", "a ${folder}", cwd=tmp_path)
    lines: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith("stop:"):
                break
        variable, *command = shlex.split(lines[-2].removeprefix("tiers:"))
        monkeypatch.setenv(*variable.split("=", 1))
        tiers = run(capsys, *command[1:], "--json")
        listed = {each["tier"] for each in tiers.json["groups"]}
        process.terminate()
        process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    text = "\n".join(lines)
    assert all(len(line) <= 80 for line in lines if not line.startswith(("publish:", "search:", "status:", "tiers:")))
    assert lines[-3].startswith("status:")
    assert lines[-3].endswith("akasha-stream status")
    assert lines[-2].startswith("tiers:")
    assert listed == {"hot", "warm", "cold"}, "the command of that line, typed meanwhile"
    for word in ("search API", "http://127.0.0.1:", "Tansu", "Valkey", "akasha-stream publish", "kept"):
        assert word in text
    assert "\x1b" not in text


async def test_worker_says_when_it_is_ready_and_stops_at_sigterm(
    tansu: TansuServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {key: f"test-worker-command-{key.replace('_', '-')}" for key in ("embeddings", "dead_letters", "digests")}
    for key, name in names.items():
        monkeypatch.setenv(f"AKASHA_TOPICS__{key.upper()}", name)
    topics = {f"topics.{key}": name for key, name in names.items()}
    await ensure_topics(Settings.load(overrides={"broker.bootstrap_servers": tansu.bootstrap_servers, **topics}))
    settings_file = tmp_path / "akasha.yml"
    settings_file.write_text(
        "topics:\n" + "".join(f"  {key}: {name}\n" for key, name in names.items()) + "redis:\n  enabled: false\n"
        "ingest:\n  group: test-worker-command\n"
    )
    process = start(
        *("--settings", str(settings_file), "worker", "--broker", tansu.bootstrap_servers, "--port", "0", "--json"),
        *("--data-dir", str(tmp_path / "shards")),
        cwd=tmp_path,
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert (ready["event"], ready["pid"]) == ("ready", process.pid)
        assert ready["partitions"] == list(range(len(ready["partitions"])))
        assert ready["partitions"]
        with SyncAkashaClient(ready["url"]) as client:
            assert client.ready()
        process.terminate()
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    assert (tmp_path / "shards").is_dir()


def test_worker_without_a_broker_is_one_clear_error(tmp_path: Path) -> None:
    process = start("worker", "--broker", "127.0.0.1:1", "--port", "0", "--data-dir", "shards", cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (4, "")
    assert "error: " in err
    assert "127.0.0.1:1" in err
    assert "Traceback" not in err


async def test_a_server_that_ends_by_itself_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("akasha_stream.cli.up.WATCH_S", 0.01)
    server = await asyncio.to_thread(ValkeyServer.start)
    try:
        assert server.ending is None
        os.kill(server.pid, signal.SIGKILL)
        with capture_logs() as logged:
            async with asyncio.timeout(20):
                await watch_servers(Servers("embedded", "", server.url, None, (server,)))
    finally:
        await asyncio.to_thread(server.stop)
    assert [(line["event"], line["ended_with"]) for line in logged] == [("valkey ended by itself", "SIGKILL")]
    assert server.ending is None, "nobody is told of a server that was stopped"


def test_a_data_directory_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    process = start("worker", "--data-dir", "file", "--port", "0", cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (3, "")
    assert "hot.data_dir: found file, which can't be written" in err


def test_up_takes_one_broker(capsys: pytest.CaptureFixture[str]) -> None:
    ran = run(capsys, "up", "--embedded", "--broker", "kafka")
    assert ran.code == 2
    assert "not both" in ran.err
