"""How far behind the log its readers are."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from akasha_stream.cli.context import Output, operator_settings, output
from akasha_stream.cli.exits import FAILED
from akasha_stream.cli.key import Key
from akasha_stream.cli.watching import Watch, run_watch, watch

if TYPE_CHECKING:
    from akasha_stream.operations.lag import Lag, PartitionLag, Totals
    from akasha_stream.settings import Settings

Urls = Annotated[
    list[str] | None,
    typer.Option("--url", metavar="URL", help="A worker besides those of the registry in Redis; may be repeated."),
]


def command(
    ctx: typer.Context,
    *,
    watch_s: Watch = None,
    over: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Measure the rates over so long; 0: none, answers at once.")
    ] = 1.0,
    max_seconds: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Exit code 1 if a partition is behind by more.")
    ] = None,
    url: Urls = None,
    key: Key = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object on the last line; with --watch one a look.")
    ] = False,
) -> None:
    """Show how far behind the log each partition's reader is: records (bundles), events, bytes, seconds, and the time
    until all is read at the measured rate.

    The offsets are those that the workers have stored; where none answers for a partition, those that the group
    committed. `~` is an estimate, from the first unread bundles. A partition without a reader counts from its start.

    \b
    Examples:
      akasha-stream lag
      akasha-stream lag --watch 2
      akasha-stream lag --max-seconds 60 --json || alert
    """
    found = operator_settings(ctx)
    out = output(json)
    urls = tuple(url or ())
    if watch_s is not None:
        run_watch(lambda: _watch(found, urls, out, watch_s))
        return
    from akasha_stream.operations.lag import measure

    lag = asyncio.run(measure(found, urls, over_s=over))
    _show(out, lag)
    if max_seconds is not None and lag.totals.seconds_behind > max_seconds:
        out.note(f"{lag.totals.seconds_behind:g} s behind, more than {max_seconds:g}")
        raise typer.Exit(FAILED)


async def _watch(found: Settings, urls: tuple[str, ...], out: Output, every_s: float) -> None:
    from akasha_stream.operations.lag import LagMeter
    from akasha_stream.topics.reader import reading

    meter = LagMeter(found, urls)
    async with reading(found.broker, found.topics.embeddings) as reader:
        await watch(lambda: meter.look(reader), _show, out, every_s)


def _show(out: Output, lag: Lag) -> None:
    from akasha_stream.cli.figures import offset, rate

    rows: list[tuple[str, ...]] = [
        (
            str(each.partition),
            offset(each.next_offset),
            offset(each.end_offset),
            each.source,
            *_behind(each),
        )
        for each in lag.partitions
    ]
    all_ = lag.totals
    rows.append(("all", "", "", "", *_behind(all_)))
    out.table(
        ("part", "next", "end", "from", "bundles", "events", "size", "behind", "clear in"),
        rows,
        right=("part", "next", "end", "bundles", "events", "size", "behind", "clear in"),
        title=f"{lag.topic}, group {lag.group}",
    )
    if all_.read_per_s is not None:
        out.line(f"read {rate(all_.read_per_s)} bundles, appended {rate(all_.appended_per_s)}")
    for note in lag.notes:
        out.note(note)
    out.result(asdict(lag))


def _behind(of: PartitionLag | Totals) -> tuple[str, ...]:
    from akasha_stream.cli.figures import amount, duration, size

    return (
        amount(of.records_behind),
        amount(of.events_behind, exact=of.events_exact),
        size(of.bytes_behind, exact=of.events_exact),
        duration(of.seconds_behind),
        duration(of.clear_s),
    )
