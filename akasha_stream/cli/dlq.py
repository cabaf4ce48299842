"""List, show, requeue and purge dead letters: what could not be stored, with the reason and the original bytes.

A letter is named PARTITION:OFFSET, its place in the dead-letter topic.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from akasha_stream.cli.audited import audited
from akasha_stream.cli.context import operator_settings, output
from akasha_stream.cli.dlq_tables import announce_purge, show_list, show_one, show_requeued
from akasha_stream.cli.exits import FAILED
from akasha_stream.cli.times import timestamp_ms
from akasha_stream.errors import UsageError

if TYPE_CHECKING:
    from akasha_stream.dlq.ledger import Choice, Ledger
    from akasha_stream.dlq.letter import Letter, Mark
    from akasha_stream.dlq.purge import PurgePlan
    from akasha_stream.dlq.requeue import Requeued
    from akasha_stream.settings import Settings

command = typer.Typer(help=__doc__, no_args_is_help=True)

_SHOWN_BYTES = 4_096

Json = Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")]
Reason = Annotated[
    list[str] | None, typer.Option("--reason", metavar="WORD", help="Only this reason; may be repeated.")
]
System = Annotated[
    list[str] | None, typer.Option("--system", metavar="NAME", help="Only records with this key; may be repeated.")
]
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Written at or after: RFC 3339, a date, or 2h (ago).")
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Written before: likewise.")]
Origin = Annotated[
    str | None,
    typer.Option("--origin", metavar="P[:O]", help="Only from this partition, or record, of the embeddings topic."),
]


@command.command("list")
def list_(
    ctx: typer.Context,
    *,
    reason: Reason = None,
    system: System = None,
    since: Since = None,
    until: Until = None,
    origin: Origin = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=0, help="Show the latest so many; 0: all.")] = 50,
    json: Json = False,
) -> None:
    """List dead letters, the latest last. Says too how many there are of each reason.

    \b
    Examples:
      akasha-stream dlq list
      akasha-stream dlq list --reason vector_length --since 2h
      akasha-stream dlq list --origin 3:1042 --json
    """
    choice = _choice(reasons=reason, systems=system, since=since, until=until, origin=origin)
    ledger = asyncio.run(_read(operator_settings(ctx), choice))
    show_list(output(json), ledger, limit)


@command.command("show")
def show_(
    ctx: typer.Context,
    letter: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="As `dlq list` shows it.")],
    *,
    all_bytes: Annotated[
        bool, typer.Option("--all-bytes", help=f"Print all of the value, not its first {_SHOWN_BYTES:,} bytes.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Write the value's bytes to stdout, and nothing else.")] = False,
    json: Json = False,
) -> None:
    """Show one dead letter with its bytes. They are shown in hexadecimal and as UTF-8, after its reason and origin.

    \b
    Examples:
      akasha-stream dlq show 0:17
      akasha-stream dlq show 0:17 --raw > event.json
      akasha-stream dlq show 0:17 --json | jq -r .value_base64
    """
    found, mark = asyncio.run(_one(operator_settings(ctx), letter))
    if raw:
        sys.stdout.buffer.write(found.value or b"")
        sys.stdout.flush()
        return
    show_one(output(json), found, mark, None if all_bytes else _SHOWN_BYTES)


@command.command("requeue")
def requeue_(
    ctx: typer.Context,
    letters: Annotated[
        list[str] | None, typer.Argument(metavar="PARTITION:OFFSET", help="As `dlq list` shows them.")
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    reason: Reason = None,
    system: System = None,
    since: Since = None,
    until: Until = None,
    origin: Origin = None,
    again: Annotated[bool, typer.Option("--again", help="Also those that were requeued before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,
    json: Json = False,
) -> None:
    """Publish dead letters again: their original bytes, to the embeddings topic. After limits were raised, say.

    Each letter is sent once: it is marked in the dead-letter topic in the same transaction, and a second requeue names
    it as requeued before and leaves it. What is sent keeps its key and headers, and has akasha-requeued-from and
    akasha-requeued-at beside them. Exit code 1 where a letter's bytes are not in the topic.

    \b
    Examples:
      akasha-stream dlq requeue 0:17 0:18
      akasha-stream dlq requeue --reason content_size --since 1d --dry-run
      akasha-stream dlq requeue --all
    """
    choice = _choice(letters, reasons=reason, systems=system, since=since, until=until, origin=origin)
    if not every and choice == _choice():
        raise UsageError(
            "say which letters: by PARTITION:OFFSET, --reason, --system, --since, --until, --origin, or --all"
        )
    found = operator_settings(ctx)
    asked = {
        "letters": letters,
        "reasons": reason,
        "systems": system,
        "since": since,
        "until": until,
        "origin": origin,
        "again": again,
    }
    about = {name: value for name, value in asked.items() if value}
    with audited(found, "dlq requeue", dry_run=dry_run, **about):
        done = asyncio.run(_requeue(found, choice, dry_run=dry_run, again=again))
    out = output(json)
    show_requeued(out, done)
    if any("bytes are only at" in each.why for each in done.skipped):
        raise typer.Exit(FAILED)


@command.command("purge")
def purge_(
    ctx: typer.Context,
    *,
    before: Annotated[
        list[str] | None,
        typer.Option("--before", metavar="PARTITION:OFFSET", help="Up to this letter, it stays; one a partition."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Written before: RFC 3339, a date, or 7d (ago).")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: Json = False,
) -> None:
    """Remove dead letters for good. They go from the start of their topic; asks first, unless --yes.

    \b
    Examples:
      akasha-stream dlq purge --until 7d --dry-run
      akasha-stream dlq purge --before 0:120 --yes
    """
    from akasha_stream.cli.figures import counted
    from akasha_stream.dlq.letter import Place

    if sum((bool(before), until is not None, every)) != 1:
        raise UsageError("say up to where: one of --before, --until and --all")
    offsets = {place.partition: place.offset for place in map(Place.parse, before)} if before else None
    found = operator_settings(ctx)
    out = output(json)
    plan = asyncio.run(_plan_purge(found, offsets, None if until is None else timestamp_ms(until)))
    announce_purge(out, plan)
    if plan.letters and not dry_run and not yes:
        if json or not sys.stdin.isatty():
            raise UsageError("nobody can be asked here: pass --yes to remove them, or --dry-run")
        if not typer.confirm(f"Remove {counted(plan.letters, 'letter')} for good?"):
            out.line("Nothing was removed.")
            raise typer.Exit(FAILED)
    removed = bool(plan.before) and not dry_run
    if removed:
        from akasha_stream.dlq.purge import purge

        with audited(found, "dlq purge", before=plan.before):
            asyncio.run(purge(found, plan))
        out.line(f"Removed {counted(plan.letters, 'letter')}.")
    out.result(
        {
            "dry_run": dry_run,
            "topic": plan.topic,
            "before": {str(partition): offset for partition, offset in plan.before.items()},
            "letters": plan.letters,
            "not_requeued": plan.not_requeued,
            "kept": plan.kept,
            "removed": plan.letters if removed else 0,
        }
    )


def _choice(
    places: list[str] | None = None,
    *,
    reasons: list[str] | None = None,
    systems: list[str] | None = None,
    since: str | None = None,
    until: str | None = None,
    origin: str | None = None,
) -> Choice:
    from akasha_stream.dlq.ledger import Choice
    from akasha_stream.dlq.letter import FOREIGN, Place
    from akasha_stream.events.reasons import REASONS

    for reason in reasons or ():
        if reason not in REASONS and reason != FOREIGN:
            from difflib import get_close_matches

            close = get_close_matches(reason, REASONS, n=1)
            hint = f"did you mean {close[0]}?" if close else "see docs/wire-format.md"
            raise UsageError(f"--reason {reason}: there is no such reason; {hint}")
    partition = offset = None
    if origin is not None:
        match = re.fullmatch(r"(\d{1,9})(?::(\d{1,18}))?", origin)
        if match is None:
            raise UsageError(f"--origin {origin}: must look like 3 or 3:1042")
        partition, offset = int(match[1]), None if match[2] is None else int(match[2])
    return Choice(
        places=frozenset(map(Place.parse, places or ())),
        reasons=frozenset(reasons or ()),
        systems=frozenset(systems or ()),
        since_ms=None if since is None else timestamp_ms(since),
        until_ms=None if until is None else timestamp_ms(until),
        origin_partition=partition,
        origin_offset=offset,
    )


async def _read(found: Settings, choice: Choice) -> Ledger:
    from akasha_stream.cli.progress import ProgressBar
    from akasha_stream.dlq.ledger import read_ledger
    from akasha_stream.topics.reader import reading

    async with reading(found.broker, found.topics.dead_letters) as reader:
        with ProgressBar() as bar:
            return await read_ledger(reader, choice, lambda done, of: bar.update("reading", done, of))


async def _one(found: Settings, text: str) -> tuple[Letter, Mark | None]:
    from akasha_stream.dlq.letter import Place
    from akasha_stream.dlq.one import find_letter
    from akasha_stream.topics.reader import reading

    place = Place.parse(text)
    async with reading(found.broker, found.topics.dead_letters) as reader:
        return await find_letter(reader, place)


async def _requeue(found: Settings, choice: Choice, *, dry_run: bool, again: bool) -> Requeued:
    from akasha_stream.cli.progress import ProgressBar
    from akasha_stream.dlq.requeue import requeue

    with ProgressBar() as bar:
        return await requeue(found, choice, dry_run=dry_run, again=again, report=bar.update)


async def _plan_purge(found: Settings, before: dict[int, int] | None, until_ms: int | None) -> PurgePlan:
    from akasha_stream.cli.progress import ProgressBar
    from akasha_stream.dlq.purge import plan_purge

    with ProgressBar() as bar:
        return await plan_purge(
            found, before=before, until_ms=until_ms, report=lambda done, of: bar.update("reading", done, of)
        )
