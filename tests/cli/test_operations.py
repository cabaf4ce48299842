"""The operators' commands on a running cluster: Kafka, Valkey and one worker, shared by all of these tests."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka import AIOKafkaProducer

from akasha_stream.cli import exits
from akasha_stream.embedded import Broker, ValkeyServer
from tests.cli.processes import start
from tests.cli.running import Ran
from tests.cli.running import run as run_command
from tests.docs.commands import commands
from tests.worker.model import Maker
from tests.worker.stage import Stage

pytestmark = [pytest.mark.kafka, pytest.mark.valkey]

DOCUMENTED = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
EVENTS = 120


@dataclass(slots=True)
class Cluster:
    stage: Stage
    settings: str
    """Path of a settings file that leads to it."""

    def run(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> Ran:
        ran = run_command(capsys, "--settings", self.settings, *arguments)
        assert "Traceback" not in ran.err, ran.err
        if "--json" not in arguments:
            assert all(len(line.rstrip()) <= 80 for line in ran.out.splitlines()), ran.out
            assert "\x1b" not in ran.out
        return ran


@pytest.fixture(scope="module")
def cluster(kafka: Broker, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("operations")

    async def begin() -> tuple[Stage, Any]:
        stage = await Stage.make(kafka, folder, valkey=valkey.url)
        worker = await stage.worker().start()
        await stage.publish(Maker(1).new(EVENTS))
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
        await producer.start()
        for value in (b"no json", b'{"event_id": "x"}', b"no json either"):
            await producer.send_and_wait(stage.topic, value, key=b"laptop", partition=1)
        await producer.stop()
        await stage.until_searchable(worker)
        return stage, worker

    stage, worker = asyncio.run(begin())
    values: dict[str, dict[str, object]] = {"embedder": {"kind": "none"}}
    for key, value in stage.overrides.items():
        section, _, name = key.partition(".")
        values.setdefault(section, {})[name] = value
    file = folder / "akasha-stream.yml"
    file.write_text(yaml.safe_dump(values))
    yield Cluster(stage, str(file))
    worker.kill()


def documented(values: dict[str, Any]) -> None:
    """Every field is named in docs/operating.md."""
    assert [name for name in values if f"`{name}`" not in DOCUMENTED] == []


def test_lag(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    ran = cluster.run(capsys, "lag", "--json")
    assert ran.code == 0, ran.err
    found = ran.json
    documented(found)
    documented(found["totals"])
    documented(found["partitions"][0])
    assert [each["source"] for each in found["partitions"]] == ["worker"] * 4
    assert (found["totals"]["records_behind"], found["totals"]["seconds_behind"]) == (0, 0.0)
    assert sum(each["next_offset"] for each in found["partitions"]) == sum(
        each["end_offset"] for each in found["partitions"]
    )
    assert found["totals"]["clear_s"] == 0.0
    text = cluster.run(capsys, "lag", "--over", "0").out
    assert "worker" in text
    assert cluster.run(capsys, "lag", "--over", "0", "--max-seconds", "0").code == 0


def test_lag_without_a_worker_counts_from_the_group_or_the_start(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AKASHA_REDIS__ENABLED", "false")
    monkeypatch.setenv("AKASHA_HTTP__PORT", "9")
    monkeypatch.setenv("AKASHA_INGEST__GROUP", "another")
    ran = cluster.run(capsys, "lag", "--over", "0", "--max-seconds", "0", "--json")
    assert ran.code == exits.FAILED
    assert {each["source"] for each in ran.json["partitions"]} == {"none"}
    assert ran.json["totals"]["events_behind"] == EVENTS + 3
    # Of each event 384 numbers of 4 bytes, and its texts.
    assert 1_536 * EVENTS < ran.json["totals"]["bytes_behind"] < 4_000 * EVENTS
    assert "partitions without a reader: 0, 1, 2, 3" in ran.err


def test_status(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    ran = cluster.run(capsys, "status", "--json")
    assert ran.code == 0, ran.out
    found = ran.json
    for values in (found, found["broker"], found["topics"][0], found["workers"][0], found["partitions"][0]):
        documented(values)
    assert found["ok"] is True
    assert [each["partition"] for each in found["partitions"]] == [0, 1, 2, 3]
    assert len({owner for each in found["partitions"] for owner in each["owners"]}) == 1
    assert sum(each["live_rows"] for each in found["partitions"]) == len(cluster.stage.model.rows())
    assert found["workers"][0]["ready"] is True
    assert "All parts work." in cluster.run(capsys, "status").out


def test_status_says_what_does_not_work(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AKASHA_REDIS__ENABLED", "false")
    monkeypatch.setenv("AKASHA_HTTP__PORT", "9")
    monkeypatch.setenv("AKASHA_TOPICS__DIGESTS", "nowhere")
    ran = cluster.run(capsys, "status", "--url", "http://127.0.0.1:9", "--json")
    assert ran.code == exits.FAILED
    problems = " ".join(ran.json["problems"])
    assert "nowhere does not exist: akasha-stream topics apply" in problems
    assert "can't be reached" in problems
    assert "no worker owns partition 0, 1, 2, 3" in problems
    monkeypatch.setenv("AKASHA_BROKER__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    ran = cluster.run(capsys, "status", "--json")
    assert (ran.code, ran.json["broker"]["reachable"]) == (exits.FAILED, False)


def test_tail(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    ran = cluster.run(capsys, "tail", "--from", "start", "--no-follow", "--json")
    assert ran.code == 0, ran.err
    lines = [json.loads(line) for line in ran.out.splitlines()]
    documented(lines[0])
    assert len(lines) == EVENTS + 3
    assert sum(line["error"] is not None for line in lines) == 3
    system = next(line["source_system"] for line in lines if line["event_id"])
    ran = cluster.run(capsys, "tail", "--from", "start", "-n", "2", "--system", system)
    assert len(ran.out.splitlines()) == 2
    assert system in ran.out
    ran = cluster.run(
        capsys, "tail", "--from", "1:0", "--no-follow", "--format", "{partition} {offset}", "--width", "0"
    )
    assert {line.split()[0] for line in ran.out.splitlines()} == {"1"}
    assert cluster.run(capsys, "tail", "--format", "{nothing}").code == exits.USAGE
    assert cluster.run(capsys, "tail", "--from", "9:0").code == exits.USAGE


def test_tail_follows_until_ctrl_c(cluster: Cluster, tmp_path: Path) -> None:
    process = start("--settings", cluster.settings, "tail", "dlq", "--from", "start", "--json", cwd=tmp_path)
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["reason"] == "json_invalid"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, err) == (exits.INTERRUPTED, "")


def test_watch_looks_again_until_ctrl_c(cluster: Cluster, tmp_path: Path) -> None:
    process = start("--settings", cluster.settings, "lag", "--watch", "0.2", "--json", cwd=tmp_path)
    try:
        assert process.stdout is not None
        looks = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert [look["totals"]["read_per_s"] for look in looks] == [None, 0.0]
    assert (process.returncode, err) == (exits.INTERRUPTED, "")


def test_the_pages_commands_run(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of README.md, docs/operating.md and docs/searching.md as they stand there, on what this cluster has."""
    monkeypatch.chdir(tmp_path)
    for name in ("vector.json", "query.json"):
        (tmp_path / name).write_text(json.dumps([1.0] * 384))
    (worker,) = cluster.run(capsys, "status", "--json").json["workers"]
    letters = iter([each["letter"] for each in cluster.run(capsys, "dlq", "list", "--json").json["letters"]] * 9)
    _, stored = cluster.stage.model.log[0]
    ran = 0
    for command in commands():
        asked = re.fullmatch(r"akasha-stream (status|lag|tail|dlq|doctor|get|search --).*", command.text)
        if asked is None or command.page not in {"README.md", "operating.md", "searching.md"}:
            continue
        words = [next(letters) if re.fullmatch(r"0:1\d", word) else word for word in command.words[1:]]
        words = [re.sub(r"session-buddy-\d+/.+", f"{stored.source_system}/{stored.event_id}", word) for word in words]
        words = ["0:1" if word == "0:1042" else word for word in words]
        if words[:2] in (["dlq", "requeue"], ["dlq", "purge"]):
            words.append("--dry-run")  # the tests below do it, and look at what became of it
        elif words[0] == "tail" and "--no-follow" not in words:
            words.append("--no-follow")  # there may be fewer than it waits for
        elif words[0] in {"get", "search"}:
            words += ["--url", worker["url"]]
        done = cluster.run(capsys, *words)
        assert done.code == 0, (command, done.err)
        ran += 1
    assert ran >= 17


def test_dead_letters_are_listed_shown_requeued_and_purged(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = cluster.run(capsys, "dlq", "list", "--json")
    documented(ran.json)
    documented(ran.json["letters"][0])
    documented(ran.json["letters"][0]["origin"])
    assert (ran.json["total"], ran.json["reasons"]["json_invalid"]) == (3, 2)
    few = cluster.run(capsys, "dlq", "list", "--reason", "json_invalid", "--since", "1h", "--origin", "1", "-n", "1")
    assert "2 of 3 letters: 2 json_invalid" in few.out
    assert "Shown are the latest 1" in few.out
    first = ran.json["letters"][0]["letter"]

    shown = cluster.run(capsys, "dlq", "show", first).out
    assert "6e 6f 20 6a 73 6f 6e" in shown
    assert "json_invalid" in shown
    as_json = cluster.run(capsys, "dlq", "show", first, "--json").json
    documented(as_json)
    assert as_json["value_utf8"] == "no json"
    assert cluster.run(capsys, "dlq", "show", "0:999").code == exits.USAGE

    assert cluster.run(capsys, "dlq", "requeue").code == exits.USAGE
    assert "did you mean json_invalid?" in cluster.run(capsys, "dlq", "requeue", "--reason", "json_invald").err
    dry = cluster.run(capsys, "dlq", "requeue", first, "--dry-run", "--json").json
    documented(dry)
    assert dry["requeued"] == [{"letter": first, "to": cluster.stage.topic}]
    assert "1 letter requeued, 0 left alone." in cluster.run(capsys, "dlq", "requeue", first).out
    second = cluster.run(capsys, "dlq", "requeue", first)
    assert second.code == 0
    assert "left alone: requeued before, as " in " ".join(second.out.split())
    assert re.search(r"requeued +$", cluster.run(capsys, "dlq", "list").out, re.MULTILINE)

    assert cluster.run(capsys, "dlq", "purge", "--all").code == exits.USAGE, "nobody can be asked"
    assert cluster.run(capsys, "dlq", "purge", "--before", first, "--until", "1h", "--yes").code == exits.USAGE
    dry = cluster.run(capsys, "dlq", "purge", "--all", "--dry-run", "--json").json
    documented(dry)
    assert dry["removed"] == 0
    purged = cluster.run(capsys, "dlq", "purge", "--before", "0:1", "--yes", "--json").json
    assert (purged["letters"], purged["not_requeued"], purged["removed"]) == (1, 0, 1)
    assert first not in [each["letter"] for each in cluster.run(capsys, "dlq", "list", "--json").json["letters"]]


def test_doctor(cluster: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ran = cluster.run(capsys, "doctor", "--json")
    found = ran.json
    documented(found)
    documented(found["checks"][0])
    assert {each["area"] for each in found["checks"]} == {
        "settings", "broker", "redis", "disk", "clock", "extensions", "workers"
    }  # fmt: skip
    assert found["ok"] is (ran.code == 0)
    assert found["ok"] is not any(each["outcome"] == "fail" for each in found["checks"])
    monkeypatch.setenv("AKASHA_BROKER__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("AKASHA_REDIS__URL", "redis://127.0.0.1:1/0")
    ran = cluster.run(capsys, "doctor")
    assert ran.code == exits.FAILED
    assert "→ start Kafka, or set broker.bootstrap_servers" in ran.out
    assert ran.err == ""


def test_an_error_is_one_line_and_the_next_step(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AKASHA_BROKER__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    for arguments in (["lag"], ["tail"], ["dlq", "list"], ["dlq", "requeue", "--all"], ["dlq", "purge", "--all"]):
        ran = cluster.run(capsys, *arguments)
        audited, _, error = ran.err.rpartition("error: ")
        assert (ran.code, error) == (
            exits.BROKER, "broker 127.0.0.1:1: can't be reached\nnext: akasha-stream doctor\n"
        )  # fmt: skip
        assert ("dlq requeue" in audited) == (arguments[:2] == ["dlq", "requeue"])
        assert audited.count("\n") == ("requeue" in arguments), "what was tried is in the audit log"
