"""docs/guarantees.md names a test for each promise: every one of them exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from akasha_stream.hot import durable
from tests.hot.kill import kill_log, take_in
from tests.hot.log import OneShard, settings_for

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "guarantees.md").read_text()


def test_every_named_test_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    there: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        there.update(re.findall(r"def (test_\w+)\(", path.read_text()))
    assert len(named) > 25
    assert named - there == set()


def test_every_promise_names_a_test() -> None:
    promises = TEXT[: TEXT.index("## The steps, in order")]
    rows = [line for line in promises.splitlines() if line.startswith("| ") and not line.startswith("| Promise")]
    assert all(re.search(r"\| `test_\w+` \|$", row) for row in rows)


def steps_of_the_code() -> set[str]:
    sources = [path.read_text() for path in (ROOT / "akasha_stream").rglob("*.py")]
    steps = {step for source in sources for step in re.findall(r'passed\("([^"]+)"\)', source)}
    assert len(steps) > 30
    return steps


def test_every_step_of_the_code_is_described() -> None:
    """Here, or on the page that this one names for it."""
    pages = [TEXT, *((ROOT / "docs" / name).read_text() for name in ("tiers.md", "compaction-and-forgetting.md"))]
    assert {step for step in steps_of_the_code() if not any(f"`{step}`" in page for page in pages)} == set()


def test_every_step_of_the_code_is_named_by_a_test() -> None:
    """One that kills there has to name it."""
    tests = [path.read_text() for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    assert {step for step in steps_of_the_code() if not any(f'"{step}"' in test for test in tests)} == set()


def test_steps_come_in_the_order_that_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a commit, then of a segment's end."""
    passed: list[str] = []
    monkeypatch.setattr(durable, "on_step", passed.append)
    with OneShard(settings_for(tmp_path, seal_rows=20, build_indexes=False)) as one:
        take_in(one, kill_log(forgets=False))
        one.sealed()
    written = re.findall(r"^\| (?:\d+ \| )?`([a-z ]+)`", TEXT[TEXT.index("## The steps, in order") :], re.MULTILINE)
    steps = list(dict.fromkeys(passed))
    assert len(steps) >= 7
    assert steps == [step for step in dict.fromkeys(written) if step in steps]
