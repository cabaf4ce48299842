"""What every command has: examples that hold, and an answer for programs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from akasha_stream.cli.root import root
from tests.cli.documented import fields

NO_JSON = {"mcp": "speaks a protocol of its own", "completion": "prints a script"}


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if not hasattr(node, "list_commands"):
        yield " ".join(path), node
        return
    for name in node.list_commands(None):
        yield from leaves(node.get_command(None, name), (*path, name))


COMMANDS = dict(leaves(get_command(root)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_whose_options_it_knows(name: str) -> None:
    text = COMMANDS[name].help or ""
    assert "Examples:\n" in text
    examples = text.split("Examples:\n")[1].strip().splitlines()
    ours = [part for line in examples for part in re.findall(r"akasha-stream [^|<>)]+", line)]
    assert any(name in part for part in ours)
    for part in ours:
        words = shlex.split(part)[1:]
        while words and words[0].startswith("--"):  # of akasha-stream itself
            assert words[0] in {"--env", "--settings", "--debug"}
            words = words[2:]
        command = next(each for each in COMMANDS if words[: len(each.split())] == each.split())
        options = {
            option for parameter in COMMANDS[command].params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert used <= options, part


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - NO_JSON))
def test_every_command_answers_programs_too(name: str) -> None:
    assert any("--json" in parameter.opts for parameter in COMMANDS[name].params)


def test_what_it_answers_is_on_the_page() -> None:
    """Of each command; the tests that run it look at the fields (conftest.py)."""
    own = {"tail"}  # an event a line: docs/operating.md
    assert fields().keys() == COMMANDS.keys() - NO_JSON - own | {"replay"}
