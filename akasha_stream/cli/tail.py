"""Follow events, dead letters or digests as they are appended."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from akasha_stream.cli.context import operator_settings, printable
from akasha_stream.cli.places import PLACES, parse_place
from akasha_stream.cli.watching import run_watch

if TYPE_CHECKING:
    from akasha_stream.operations.tail import Start, Topic
    from akasha_stream.settings import Settings


class Which(StrEnum):
    embeddings = "embeddings"
    dlq = "dlq"
    digests = "digests"


def command(
    ctx: typer.Context,
    which: Annotated[Which, typer.Argument(help="embeddings, dlq or digests.")] = Which.embeddings,
    *,
    system: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this source system; may be repeated.")
    ] = None,
    from_: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="WHERE",
            help=PLACES,
        ),
    ] = "end",
    count: Annotated[int | None, typer.Option("-n", "--count", min=1, help="End after so many lines.")] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for more, or end with the topic.")] = True,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="TEXT", help="A line, with fields as {partition} {event_id} {content}."),
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=0, help="Cut lines here; 0: nowhere.  [default: the terminal's width, 80]")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line, nothing cut.")] = False,
) -> None:
    """Follow events, dead letters or digests as they are appended; Ctrl-C ends it (exit code 130).

    Reads in no group: no worker notices. Bundles are decoded, checked and redacted as a worker does it; a bad record
    is a line that says why it is one.

    \b
    Examples:
      akasha-stream tail
      akasha-stream tail --system session-buddy-003 --from -10 --no-follow
      akasha-stream tail --from 15m --format '{time} {source_system}: {content}'
      akasha-stream tail dlq --from start --json | jq -r .reason
    """
    from akasha_stream.operations.tail import checked_format

    topic: Topic = which.value
    template = None if form is None else checked_format(topic, form)
    start = parse_place(from_)
    found = operator_settings(ctx)
    if width is None:
        from shutil import get_terminal_size

        width = get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
    run_watch(
        lambda: _tail(
            found,
            topic,
            tuple(system or ()),
            start,
            count,
            follow=follow,
            template=template,
            json=json,
            cut=width,
        )
    )


async def _tail(
    found: Settings,
    which: Topic,
    systems: tuple[str, ...],
    start: Start,
    count: int | None,
    *,
    follow: bool,
    template: str | None,
    json: bool,
    cut: int,
) -> None:
    from contextlib import aclosing

    import orjson

    from akasha_stream.operations.tail import Lines, formatted, shortened
    from akasha_stream.topics.reader import reading

    topics = found.topics
    name = {"embeddings": topics.embeddings, "dlq": topics.dead_letters, "digests": topics.digests}[which]
    lines = Lines(found, which, systems)
    left = count
    async with reading(found.broker, name) as reader:
        starts = await start.offsets(reader)
        source = reader.follow(starts) if follow else reader.between(starts, await reader.ends())
        async with aclosing(source) as batches:
            async for records in batches:
                for line in lines.of(records):
                    if json:
                        text = orjson.dumps(line).decode()
                    else:
                        text = printable(shortened(which, line) if template is None else formatted(line, template))
                        if cut and len(text) > cut:
                            text = f"{text[: cut - 1]}…"
                    sys.stdout.write(f"{text}\n")
                    if left is not None:
                        left -= 1
                        if not left:
                            sys.stdout.flush()
                            return
                sys.stdout.flush()
