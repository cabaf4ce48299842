"""Read a part of the log again, under today's settings."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from akasha_stream.cli.audited import audited
from akasha_stream.cli.context import Output, operator_settings, output
from akasha_stream.cli.exits import FAILED, INTERRUPTED
from akasha_stream.cli.key import Key
from akasha_stream.cli.places import PLACES, parse_place
from akasha_stream.errors import UsageError
from akasha_stream.times import rfc3339

if TYPE_CHECKING:
    from akasha_stream.incarnation import Incarnation
    from akasha_stream.replay.compare import Comparison
    from akasha_stream.replay.into import Filled
    from akasha_stream.replay.job import ReplayState
    from akasha_stream.replay.selection import Selection
    from akasha_stream.settings import Settings

command = typer.Typer()
Json = Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")]
Urls = Annotated[
    list[str] | None,
    typer.Option("--url", metavar="URL", help="A worker besides those of the registry in Redis; may be repeated."),
]
Partitions = Annotated[
    list[int] | None, typer.Option("--partition", min=0, metavar="N", help="Only this partition; may be repeated.")
]


@command.callback(invoke_without_command=True)
def run(  # noqa: PLR0917  Typer's parameters are options
    ctx: typer.Context,
    from_: Annotated[str, typer.Option("--from", metavar="WHERE", help=PLACES)] = "start",
    until: Annotated[str, typer.Option(metavar="WHERE", help="Likewise; this record is not read any more.")] = "end",
    last: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The last N records of each partition: --from -N.")
    ] = None,
    partition: Partitions = None,
    system: Annotated[str | None, typer.Option(metavar="NAME", help="Only events of this source system.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would change, and change nothing.")] = False,
    into: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Into a data directory of its own, to compare.")
    ] = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="With --into: make the vectors anew, with the embedder of the settings.")
    ] = False,
    rate: Annotated[float | None, typer.Option(min=0.001, metavar="N", help="Events a second at most.")] = None,
    url: Urls = None,
    key: Key = None,
    json: Json = False,
) -> None:
    """Read a part of the log again, under today's settings.

    Into the shards (the default): each event is judged again as if it came for the first time. Where all are stored
    as they should be, nothing is changed. Else the shard is made anew from the first segment that differs, beside
    the one that is searched, and takes its place. No older version ever replaces a newer one. The workers do it; with
    none, the data directory of the settings is opened.

    Ctrl-C pauses; `replay resume` or the same command goes on. docs/replay.md has the details, and recipes.

    \b
    Examples:
      akasha-stream replay --dry-run
      akasha-stream replay --from 2h --system session-buddy-003
      akasha-stream replay --last 1000 --into /tmp/side
      akasha-stream replay compare /tmp/side
    """
    if ctx.invoked_subcommand is not None:
        return
    if embed and into is None:
        raise UsageError("--embed: only into a directory of its own, --into DIR: the log keeps the vectors that it has")
    if into is not None and dry_run:
        raise UsageError("--dry-run and --into can't go together: what --into writes is in DIR alone")
    from akasha_stream.replay.selection import Selection

    start = parse_place(from_ if last is None else f"-{last}")
    asked = f"from {from_ if last is None else -last} until {until}, partitions {partition or 'all'}"
    wanted = Selection(start, parse_place(until), tuple(partition or ()), system)
    found, out = operator_settings(ctx), output(json)
    try:
        if into is None:
            with audited(found, "replay", dry_run=dry_run, asked=asked, system=system):
                asyncio.run(_live(found, out, wanted, url or (), dry_run=dry_run, rate=rate))
        else:
            asyncio.run(_into(found, out, wanted, asked, into, embed=embed, rate=rate))
    except KeyboardInterrupt:
        again = "the same command again" if into is not None else "akasha-stream replay resume"
        out.note(f"interrupted; it goes on with {again}")
        raise typer.Exit(INTERRUPTED) from None


async def _live(
    found: Settings, out: Output, wanted: Selection, urls: Sequence[str], *, dry_run: bool, rate: float | None
) -> None:
    from akasha_stream.cli.progress import ProgressBar
    from akasha_stream.replay.drive import drive, owners
    from akasha_stream.replay.job import ReplayRequest
    from akasha_stream.topics.reader import reading

    async with reading(found.broker, found.topics.embeddings) as reader:
        ranges = await wanted.ranges(reader)
    requests = [
        # Without an end it goes as far as the shard does, whatever comes meanwhile.
        ReplayRequest(
            partition=each.partition,
            start=each.start,
            end=None if wanted.until.kind == "end" else each.end,
            system=wanted.system,
            dry_run=dry_run,
            rate=rate,
        )
        for each in ranges
        if each.start < each.end
    ]
    with ProgressBar() as bar:

        def watch(states: Sequence[ReplayState]) -> None:
            for state in states:
                if state.phase in {"checking", "rebuilding"}:
                    first = state.start if state.rebuilt_from is None else state.rebuilt_from
                    what = f"partition {state.partition}: {state.phase}{', paused' if state.paused else ''}"
                    bar.update(what, max(0, state.next_offset - first), max(0, state.until - first))

        async with owners(found, urls, await _incarnation(found)) as shards:
            states = await drive(shards, requests, watch)
    _show_states(out, states)
    out.result(_plain(states))
    if any(state.phase != "done" for state in states):
        raise typer.Exit(FAILED)


async def _incarnation(found: Settings) -> Incarnation:
    from akasha_stream.topics.incarnation import log_incarnation

    return await log_incarnation(found.broker, found.topics.embeddings)


def _show_states(out: Output, states: Sequence[ReplayState]) -> None:
    out.table(
        ("part", "records", "events", "unchanged", "new", "replaced", "removed", "deleted", "refused", "phase"),
        [
            (
                str(each.partition),
                *(
                    f"{number:,}"
                    for number in (
                        each.effect.records,
                        each.effect.events,
                        each.effect.unchanged,
                        each.effect.new,
                        each.effect.replaced,
                        each.effect.removed,
                        each.effect.deleted,
                        each.effect.refused,
                    )
                ),
                f"{each.phase}{', paused' if each.paused else ''}",
            )
            for each in states
        ],
        right=("part", "records", "events", "unchanged", "new", "replaced", "removed", "deleted", "refused"),
    )
    first = min((e.effect.first_ms for e in states if e.effect.first_ms is not None), default=None)
    last = max((e.effect.last_ms for e in states if e.effect.last_ms is not None), default=None)
    if first is not None and last is not None:
        out.line(f"appended from {_time(first)} to {_time(last)}")
    for each in states:
        if each.error is not None:
            out.note(f"partition {each.partition}: {each.error}")
        elif each.changed is not None:
            out.line(
                f"partition {each.partition}: made anew from offset {each.rebuilt_from}: {each.changed.came:,} rows "
                f"came, {each.changed.went:,} went, {each.changed.changed:,} changed"
            )
        elif each.dry_run and each.effect.first_difference is not None:
            out.line(f"partition {each.partition}: would be made anew, offset {each.effect.first_difference} differs")
    if states and all(each.phase == "done" and each.effect.first_difference is None for each in states):
        out.line("nothing differs: no row changed")


def _time(milliseconds: int) -> str:
    from datetime import UTC, datetime

    return rfc3339(datetime.fromtimestamp(milliseconds / 1000, UTC), "seconds")


def _plain(states: Sequence[ReplayState]) -> dict[str, object]:
    from dataclasses import asdict

    changed = [state.changed.total for state in states if state.changed is not None]
    return {
        "replays": [asdict(state) for state in states],
        "records": sum(state.effect.records for state in states),
        "events": sum(state.effect.events for state in states),
        "differences": sum(state.effect.changes for state in states),
        "rows_changed": sum(changed),
        "done": all(state.phase == "done" for state in states),
    }


async def _into(
    found: Settings, out: Output, wanted: Selection, asked: str, folder: Path, *, embed: bool, rate: float | None
) -> None:
    from dataclasses import asdict

    from akasha_stream.cli.progress import ProgressBar
    from akasha_stream.replay.into import Taken, replay_into
    from akasha_stream.replay.pace import Pace
    from akasha_stream.search.embedders import create_embedder
    from akasha_stream.topics.reader import reading

    embedder = create_embedder(found) if embed else None
    if embed and embedder is None:
        raise UsageError("--embed: no embedder is configured, see embedder.kind in: akasha-stream config show")
    topic, log = found.topics.embeddings, await _incarnation(found)
    async with reading(found.broker, topic) as reader:
        ranges = await wanted.ranges(reader)
        taken = Taken(topic, log, asked, ranges, wanted.system, None if embedder is None else embedder.model)
        with ProgressBar() as bar:
            filled = await replay_into(
                found, folder, reader, taken, pace=Pace(rate), embedder=embedder, report=bar.update
            )
    _show_filled(out, folder, filled)
    out.result({"folder": str(folder), **asdict(filled)})


def _show_filled(out: Output, folder: Path, filled: Filled) -> None:
    out.line(f"{filled.records:,} records, {filled.events:,} events read; {filled.refused:,} refused")
    if filled.outcomes:
        out.line(", ".join(f"{count:,} {name}" for name, count in filled.outcomes.items() if count))
    out.line(f"{folder} has {filled.rows:,} rows; compare them with: akasha-stream replay compare {folder}")


@command.command()
def status(ctx: typer.Context, url: Urls = None, key: Key = None, json: Json = False) -> None:
    """Show the last replay of each partition, under way or not.

    \b
    Examples:
      akasha-stream replay status
    """
    from akasha_stream.replay.drive import owners

    found, out = operator_settings(ctx), output(json)

    async def states() -> list[ReplayState]:
        async with owners(found, url or (), await _incarnation(found)) as shards:
            return await shards.states()

    known = asyncio.run(states())
    _show_states(out, known)
    out.result(_plain(known))


def _act(ctx: typer.Context, what: str, partitions: Sequence[int], urls: Sequence[str], *, json: bool) -> None:
    from akasha_stream.replay.drive import owners

    found, out = operator_settings(ctx), output(json)

    async def act() -> list[ReplayState]:
        async with owners(found, urls, await _incarnation(found)) as shards:
            under_way = [state.partition for state in await shards.states() if not state.final]
            return [await shards.act(each, what) for each in partitions or under_way]

    with audited(found, f"replay {what}", partitions=list(partitions)):
        states = asyncio.run(act())
    _show_states(out, states)
    out.result(_plain(states))


@command.command()
def pause(
    ctx: typer.Context, partition: Partitions = None, url: Urls = None, key: Key = None, json: Json = False
) -> None:
    """Pause replays into the shards; all, or those of some partitions.

    \b
    Examples:
      akasha-stream replay pause --partition 3
    """
    _act(ctx, "pause", partition or (), url or (), json=json)


@command.command()
def resume(
    ctx: typer.Context, partition: Partitions = None, url: Urls = None, key: Key = None, json: Json = False
) -> None:
    """Let paused replays go on.

    \b
    Examples:
      akasha-stream replay resume
    """
    _act(ctx, "resume", partition or (), url or (), json=json)


@command.command()
def cancel(
    ctx: typer.Context, partition: Partitions = None, url: Urls = None, key: Key = None, json: Json = False
) -> None:
    """End replays; the shards stay as they are.

    \b
    Examples:
      akasha-stream replay cancel --partition 3
    """
    _act(ctx, "cancel", partition or (), url or (), json=json)


@command.command()
def compare(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Of replay --into.")],
    url: Urls = None,
    key: Key = None,
    json: Json = False,
) -> None:
    """Compare a side store with the shards, row by row; exit code 1 where they differ.

    Of the offsets that the side store has. Rows are the same when all that an event holds is: content, model,
    metadata, time and vector.

    \b
    Examples:
      akasha-stream replay compare side
    """
    found, out = operator_settings(ctx), output(json)
    comparison = asyncio.run(_compare(found, folder, url or ()))
    _show_comparison(out, comparison)
    from dataclasses import asdict

    out.result({**asdict(comparison), "equal": comparison.equal})
    if not comparison.equal:
        raise typer.Exit(FAILED)


async def _compare(found: Settings, folder: Path, urls: Sequence[str]) -> Comparison:
    from akasha_stream.hot.store import ShardStore
    from akasha_stream.replay.compare import Comparison, live_rows
    from akasha_stream.replay.drive import owners
    from akasha_stream.replay.into import read_taken

    taken = read_taken(folder)
    if taken is None:
        raise UsageError(f"{folder} is no directory of: akasha-stream replay --into")
    hot = found.hot.model_copy(update={"data_dir": folder, "build_indexes": False})
    comparison = Comparison()
    async with owners(found, urls, taken.incarnation) as shards:
        side = await asyncio.to_thread(ShardStore, found.model_copy(update={"hot": hot}), taken.topic)
        try:
            for each in taken.ranges:
                shard = await asyncio.to_thread(side.open, each.partition, taken.incarnation)
                rows = await shards.rows(each.partition)
                await asyncio.to_thread(comparison.add, rows, live_rows(shard), each, taken.system)
        finally:
            await asyncio.to_thread(side.close_all)
    return comparison


def _show_comparison(out: Output, found: Comparison) -> None:
    out.table(
        ("same", "changed", "only in the shards", "only in the side store", "replaced later"),
        [[f"{n:,}" for n in (found.same, found.changed, found.only_in_store, found.only_in_side, found.later)]],
        right=("same", "changed", "only in the shards", "only in the side store", "replaced later"),
    )
    out.table(
        ("kind", "source system", "event"),
        [(each.kind.replace("_", " "), each.source_system, each.event_id) for each in found.examples],
    )
