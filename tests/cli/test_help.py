"""What every command has: examples that hold, and an answer for programs."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.cli.documented import fields
from tests.cli.tree import LEAVES, unknown_options

NO_JSON = {"mcp": "speaks a protocol of its own", "completion": "prints a script"}


COMMANDS = {" ".join(path): command for path, command in LEAVES.items()}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_whose_options_it_knows(name: str) -> None:
    text = COMMANDS[name].help or ""
    assert "Examples:\n" in text
    examples = text.split("Examples:\n")[1].strip().splitlines()
    ours = [part for line in examples for part in re.findall(r"akasha-stream [^|<>)]+", line)]
    assert any(name in part for part in ours)
    for part in ours:
        words = shlex.split(part)[1:]
        assert any(f" {each} " in f" {' '.join(words)} " for each in COMMANDS), part
        assert unknown_options(words) == [], part


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - NO_JSON))
def test_every_command_answers_programs_too(name: str) -> None:
    assert any("--json" in parameter.opts for parameter in COMMANDS[name].params)


def test_what_it_answers_is_on_the_page() -> None:
    """Of each command; the tests that run it look at the fields (conftest.py)."""
    own = {"tail"}  # an event a line: docs/operating.md
    assert fields().keys() == COMMANDS.keys() - NO_JSON - own | {"replay"}
