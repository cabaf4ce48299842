"""docs/guarantees.md names a test for each promise: every one of them exists."""

from __future__ import annotations

import re
from pathlib import Path

from akasha_stream.hot import sealer, shard

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


def test_every_step_of_the_code_is_described() -> None:
    source = "".join(Path(module.__file__ or "").read_text() for module in (shard, sealer))
    steps = set(re.findall(r'passed\("([^"]+)"\)', source))
    assert len(steps) >= 8
    assert {step for step in steps if f"`{step}`" not in TEXT} == set()
