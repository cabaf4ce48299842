"""docs/operating.md has the operators' commands; tests/cli/test_operations.py checks its JSON fields."""

from __future__ import annotations

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()


def test_every_operators_command_has_its_page() -> None:
    headings = re.findall(r"^## ([\w-]+)$", TEXT, re.MULTILINE)
    assert headings == ["status", "lag", "tail", "dlq", "doctor", "completion"]


def test_outputs_are_80_columns() -> None:
    blocks = re.findall(r"^```(?:console)?\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    # A letter's bytes are shown as they are, and commands as they are typed.
    long = [
        line
        for block in blocks
        for line in block.splitlines()
        if len(line) > 80 and not line.startswith(("$ ", "{", "  0:11 left alone"))
    ]
    assert long == []
