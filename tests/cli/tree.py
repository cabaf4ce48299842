"""The commands and their options, as Typer has them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from typer.main import get_command

from akasha_stream.cli import COMMANDS
from akasha_stream.cli.root import root

_ROOT = get_command(root)


def _leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    names = list(getattr(command, "commands", {})) if path else list(COMMANDS)
    if not names:
        yield path, command
    for name in names:
        yield from _leaves(command.commands.get(name), (*path, name))


LEAVES: dict[tuple[str, ...], Any] = dict(_leaves(_ROOT))
"""Words → command, of each that takes arguments of its own."""


def options_in(words: Sequence[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]


def unknown_options(words: Sequence[str]) -> list[str]:
    """Those that the command does not have, of a line without its `akasha-stream`."""
    node: Any = _ROOT
    unknown = []
    for word in words:
        for name in options_in([word]):
            if name not in {"--help", "-h"} and not any(
                name in (*parameter.opts, *parameter.secondary_opts) for parameter in node.params
            ):
                unknown.append(name)
        node = getattr(node, "commands", {}).get(word, node)
    return unknown
