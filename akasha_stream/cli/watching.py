"""`--watch SECONDS`: look again and again, until Ctrl-C."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from akasha_stream.errors import AkashaError

if TYPE_CHECKING:
    from akasha_stream.cli.context import Output

Watch = Annotated[
    float | None,
    typer.Option("--watch", "-w", min=0.1, metavar="SECONDS", help="Look again every so many seconds, until Ctrl-C."),
]


async def watch[Found](
    look: Callable[[], Awaitable[Found]], show: Callable[[Output, Found], None], out: Output, every_s: float
) -> None:
    """Until cancelled. A terminal shows the latest look in place; elsewhere, and with --json, one follows the other.

    What can't be reached for a while is a note, once there was a first look. Raises the errors of that one.
    """
    if out.json or not out.console.is_terminal:
        async for found in _looks(look, out, every_s):
            show(out, found)
            if not out.json:
                out.line()
                out.console.file.flush()
        return
    from rich.live import Live
    from rich.text import Text

    with Live(console=out.console, auto_refresh=False, vertical_overflow="visible") as live:
        async for found in _looks(look, out, every_s):
            with out.console.capture() as captured:
                show(out, found)
            live.update(Text.from_ansi(captured.get()), refresh=True)


async def _looks[Found](look: Callable[[], Awaitable[Found]], out: Output, every_s: float) -> AsyncIterator[Found]:
    seen = False
    while True:
        try:
            found = await look()
        except AkashaError as error:
            if not seen or not error.retriable:
                raise
            out.note(str(error))
        else:
            seen = True
            yield found
        await asyncio.sleep(every_s)


def run_watch(main: Callable[[], Any]) -> None:
    """Run a command's coroutine until it ends or a signal does; raises typer.Exit with the code where it is not 0."""
    from akasha_stream.cli.signals import run_until_signal

    if code := run_until_signal(main):
        raise typer.Exit(code)
