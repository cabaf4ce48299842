"""docs/testing.md has every fault, every way of breaking the product, and options that are there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.broken import BROKEN
from tests.chaos.plan import Fault

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "testing.md").read_text()


def test_every_fault_and_every_broken_product_has_its_row() -> None:
    rows = set(re.findall(r"`(\w+)`", "".join(line for line in TEXT.splitlines() if line.startswith("| `"))))
    assert rows == {*Fault, *BROKEN}


@pytest.mark.parametrize(("module", "heading"), [("tests.chaos", "## Chaos"), ("tests.fuzz", "## Fuzzing")])
def test_the_commands_have_the_options_that_are_named(module: str, heading: str) -> None:
    asked = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    section = TEXT[TEXT.index(heading) :].removeprefix(heading).partition("\n## ")[0]
    named = set(re.findall(r"--[a-z]+", section))
    assert len(named) >= 4
    assert {option for option in named if option not in asked.stdout} == set()
