"""What every command uses: the settings, and output for people or as JSON."""

from __future__ import annotations

import json as _json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer
    from rich.console import Console
    from rich.table import Table

    from akasha_stream.configuration.load import Loaded
    from akasha_stream.settings import LoggingSettings, Settings

_WIDTH = 80


@dataclass(slots=True)
class Invocation:
    """The global options of one command line."""

    settings_path: Path | None = None
    environment: str | None = None
    debug: bool = False
    warned: bool = False
    """Of AKASHA_ variables that nothing reads."""
    key: str | None = field(default=None, repr=False)
    """API key of --key (cli/key.py)."""


def loaded(ctx: typer.Context, overrides: Mapping[str, object] | None = None) -> Loaded:
    """Settings with where they come from. Raises SettingsError."""
    from akasha_stream.configuration.load import load

    invocation = ctx.find_object(Invocation) or Invocation()
    return load(invocation.settings_path, invocation.environment, overrides)


def settings(ctx: typer.Context, overrides: Mapping[str, object] | None = None) -> Settings:
    """The validated settings, with logging set up as they say. Raises SettingsError.

    `overrides`: dotted keys of the command's own options; those that are None were not given and are left out.
    """
    import structlog

    from akasha_stream.logs import configure

    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    if (key := _key(ctx)) is not None:
        given["auth.key"] = key
    found = loaded(ctx, given)
    configure(found.settings.logging)
    invocation = ctx.ensure_object(Invocation)
    if not invocation.warned:
        invocation.warned = True
        for text in found.unused:
            structlog.get_logger(__name__).warning(text)
    return found.settings


def _key(ctx: typer.Context) -> str | None:
    return (ctx.find_object(Invocation) or Invocation()).key


def operator_settings(ctx: typer.Context) -> Settings:
    """The same for commands that look from outside: what they can't reach they say themselves, in one line."""
    found = settings(ctx)
    quiet_libraries(found.logging)
    return found


def quiet_libraries(logging: LoggingSettings) -> None:
    """Errors alone are logged, and none of aiokafka's, which tells of each connection that it could not make.

    With logging.level debug all is.
    """
    from logging import CRITICAL, ERROR, getLogger

    from akasha_stream.logs import configure

    configure(logging)
    if logging.level != "debug":
        getLogger().setLevel(ERROR)
        getLogger("aiokafka").setLevel(CRITICAL)


def output(json: bool) -> Output:
    """Where a command's results go: tables and lines, or with `json` one object on the last line of stdout."""
    return Output(json=json)


@dataclass(slots=True)
class Output:
    """`table` and `line` are for people and print nothing with --json; `result` is for programs and prints
    nothing without it. `note` goes to stderr in both."""

    json: bool
    _console: Console | None = field(default=None, repr=False)

    @property
    def console(self) -> Console:
        """Rich on stdout: 80 columns where it is no terminal, at most 100 where it is; NO_COLOR is respected."""
        if self._console is None:
            from rich.console import Console

            console = Console(highlight=False, markup=False, emoji=False)
            console.width = min(console.width, 100) if console.is_terminal else _WIDTH
            self._console = console
        return self._console

    def line(self, text: str = "") -> None:
        if not self.json:
            self.console.print(printable(text), soft_wrap=True)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        title: str | None = None,
        right: Collection[str] = (),
    ) -> None:
        """`right`: the columns that are figures. Cells may hold untrusted text."""
        if self.json:
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
        for column in columns:
            figures = column in right
            table.add_column(column, justify="right" if figures else "left", no_wrap=figures, overflow="fold")
        for row in rows:
            table.add_row(*(Text(printable("" if cell is None else str(cell))) for cell in row))
        if self._too_wide(table):
            table.padding = (0, 0)
        if self._too_wide(table):
            for drawn in table.columns:
                drawn.no_wrap = False  # a figure on two lines is still the figure; Rich would cut it
        self.console.print(table)

    def _too_wide(self, table: Table) -> bool:
        """Even with its texts folded."""
        widest = self.console.options.update(max_width=10_000)
        return table.__rich_measure__(self.console, widest).minimum > self.console.width

    def result(self, values: object) -> None:
        """The one JSON object. Non-ASCII is escaped: any terminal or pipe can take it."""
        if self.json:
            sys.stdout.write(_json.dumps(values, default=str) + "\n")
            sys.stdout.flush()

    def note(self, text: str) -> None:
        sys.stderr.write(f"note: {printable(text)}\n")


def printable(text: str) -> str:
    """`text` without control characters: content from an event must not drive the terminal."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character == "\n" or character.isprintable() or (character.isspace() and ord(character) >= 0xA0)
        else " "
        if character in "\t\r"
        else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )
