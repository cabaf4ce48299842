"""The root command: global options, lazily imported commands, and the one place that reports errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

import akasha_stream
from akasha_stream.cli import COMMANDS, Entry
from akasha_stream.cli.context import Invocation
from akasha_stream.cli.exits import FAILED, exit_code, next_step
from akasha_stream.errors import AkashaError, UsageError

PROGRAM = "akasha-stream"
COMPLETE = "_AKASHA_STREAM_COMPLETE"
"""Set by a shell that asks for completions (cli/completion.py)."""


class _Commands(dict[str, Any]):
    """The table of commands; the module of one is imported when it is asked for."""

    def __init__(self, table: dict[str, Entry]) -> None:
        super().__init__(dict.fromkeys(table))
        self._table = table

    def get(self, name: str, default: Any = None) -> Any:
        if name not in self:
            return default
        if self[name] is None:
            entry = self._table[name]
            self[name] = _build(name, entry, import_module(entry.module).command)
        return self[name]


def _build(name: str, entry: Entry, command: Any) -> Any:
    if isinstance(command, typer.Typer):
        app = command
    else:
        app = typer.Typer()
        app.command(name, help=None if command.__doc__ else entry.help)(command)
    # Plain help: Rich's costs 0.1 s, and its errors draw boxes that no log or pipe wants.
    app.rich_markup_mode = None
    app._add_completion = False
    built = get_command(app)
    built.name = name
    if not built.help:
        built.help = entry.help
    return built


class LazyGroup(TyperGroup):
    """A group that lists its commands from the table, without importing them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


root = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 settings, 4 broker, 5 topics differ, 6 some input refused, "
    "130 interrupted.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"akasha-stream {akasha_stream.__version__}")
        raise typer.Exit


@root.callback()
def _root(
    ctx: typer.Context,
    settings: Annotated[
        Path | None,
        typer.Option(
            "--settings",
            metavar="PATH",
            help="Settings file.  [default: $AKASHA_SETTINGS, ./settings/akasha-stream.yml, the shipped one]",
        ),
    ] = None,
    env: Annotated[
        str | None, typer.Option("--env", metavar="NAME", help="dev, staging or prod.  [default: $AKASHA_ENV, dev]")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Embeddings from Kafka, searchable within a second.

    Start with `akasha-stream demo`.
    """
    invocation = ctx.ensure_object(Invocation)
    invocation.settings_path = settings
    invocation.environment = env
    invocation.debug = debug


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code. An error is one line, and one with the next step where there is one;
    with --debug its traceback stands before it. So is a bug (any other exception), with the place it happened at."""
    invocation = Invocation()
    if COMPLETE in os.environ:
        from typer._completion_classes import completion_init

        completion_init()
    try:
        _require_text(arguments)
        get_command(root).main(list(arguments), prog_name=PROGRAM, obj=invocation)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except AkashaError as error:
        _report(error, str(error), next_step(error), debug=invocation.debug)
        return exit_code(error)
    except Exception as error:
        text = f"{type(error).__name__}: {error} (a fault of akasha-stream{_place(error)})"
        again = None if invocation.debug else "run it again as akasha-stream --debug …, and report what it prints"
        _report(error, text, again, debug=invocation.debug)
        return FAILED
    return 0


def _require_text(arguments: Sequence[str]) -> None:
    """Python takes bytes of an argument that are no UTF-8 for lone surrogates, which no server and no file has."""
    for number, argument in enumerate(arguments, 1):
        if any("\ud800" <= character <= "\udfff" for character in argument):
            raise UsageError(f"argument {number} is not UTF-8: {argument[:80]!a}")


def _report(error: Exception, text: str, following: str | None, *, debug: bool) -> None:
    if debug:
        import traceback

        traceback.print_exception(error)
    sys.stdout.flush()
    print(f"error: {text}", file=sys.stderr)  # noqa: T201
    if following is not None:
        print(f"next: {following}", file=sys.stderr)  # noqa: T201


def _place(error: Exception) -> str:
    """The innermost line of ours."""
    from traceback import extract_tb

    ours = [frame for frame in extract_tb(error.__traceback__) if "akasha_stream" in frame.filename]
    return f", {ours[-1].filename.rpartition('akasha_stream')[2][1:]}:{ours[-1].lineno}" if ours else ""
