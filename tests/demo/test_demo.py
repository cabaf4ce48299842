"""The demo as a user runs it."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from akasha_stream.cli.demo import this_command
from tests.cli.processes import descendants, left_of, start

FIELDS = {
    *("published", "stored", "duplicates", "dead_letters", "events_per_s", "hits"),
    *("searchable_p50_ms", "searchable_p99_ms", "search_p50_ms", "search_p99_ms"),
}


def _check(figures: dict[str, Any]) -> None:
    assert set(figures) >= FIELDS
    assert figures["stored"] + figures["duplicates"] == figures["published"]
    assert (figures["duplicates"], figures["dead_letters"], figures["missing"]) == (60, 1, 0)
    assert figures["complete"] is True
    assert figures["events_per_s"] > 0
    assert 0 < figures["searchable_p50_ms"] <= figures["searchable_p99_ms"]
    assert 0 < figures["search_p50_ms"] <= figures["search_p99_ms"]
    assert figures["hits"] >= 3


def _run(*arguments: str, cwd: Path) -> tuple[str, str]:
    process = start("demo", *arguments, cwd=cwd)
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    return out, err


@pytest.mark.valkey
def test_json_is_one_object_whose_figures_agree(tmp_path: Path) -> None:
    out, err = _run("--json", "--events", "600", cwd=tmp_path)
    assert len(out.splitlines()) == 1
    figures = json.loads(out)
    _check(figures)
    assert figures["stored"] == 600
    assert err == ""
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("akasha-")] == []


@pytest.mark.valkey
@pytest.mark.slow
def test_tables_fit_80_columns_without_colour(tmp_path: Path) -> None:
    out, err = _run(cwd=tmp_path)
    assert err == ""
    assert "\x1b" not in out
    assert all(len(line) <= 80 for line in out.splitlines())
    for word in (
        "2,460",
        "2,400",
        "duplicates",
        "dead letters",
        "events/s",
        "Search: ",
        "Everything that was published",
    ):
        assert word in out


@pytest.mark.valkey
@pytest.mark.slow
def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    process = start("demo", cwd=tmp_path)
    try:
        deadline = time.monotonic() + 30
        while len(servers := descendants(process)) < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    assert left_of(servers) == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("akasha-")] == []


@pytest.mark.kafka
@pytest.mark.slow
def test_on_apache_kafka(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The jars are where the machine keeps them: with another HOME they would be fetched again.
    cache = Path.home() / ".cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    out, err = _run("--json", "--broker", "kafka", cwd=tmp_path)
    figures = json.loads(out.splitlines()[-1])
    _check(figures)
    assert figures["broker"] == "kafka"
    assert err == ""


def test_the_next_command_is_one_that_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / ".venv" / "bin" / "akasha-stream"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setattr("sys.executable", str(program.with_name("python")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    assert this_command() == ".venv/bin/akasha-stream"
    monkeypatch.chdir(program.parent.parent.parent.parent)
    assert this_command().endswith(".venv/bin/akasha-stream")
    monkeypatch.setenv("PATH", str(program.parent))
    assert this_command() == "akasha-stream"
