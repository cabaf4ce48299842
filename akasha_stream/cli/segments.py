"""The stored segments, checked. The catalog is made again by: akasha-stream rebuild catalog."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from akasha_stream.cli.context import Output, output, settings
from akasha_stream.cli.progress import progress_bar
from akasha_stream.cli.stored import tier_store
from akasha_stream.errors import SegmentCorrupt, StorageError

if TYPE_CHECKING:
    from akasha_stream.tiers.segment_store import SegmentStore

command = typer.Typer(help=__doc__, no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")]


@command.callback()
def segments() -> None:
    # With one command alone, typer would take that for the whole.
    pass


@command.command()
def check(
    ctx: typer.Context,
    bodies: Annotated[
        bool, typer.Option("--bodies", help="Read every segment whole and compare its checksums; costs the reads.")
    ] = False,
    json: Json = False,
) -> None:
    """Say whether the segments are whole: gaps, overlaps, damage, leftovers; exit code 1 on problems.

    \b
    Examples:
      akasha-stream segments check --bodies
    """
    configured, out = settings(ctx), output(json)

    async def run() -> list[str]:
        async with tier_store(configured, topic=None, out=out) as store:
            return report(out, store, await _read_all(store) if bodies else {})

    fail_with(asyncio.run(run()))


async def _read_all(store: SegmentStore) -> dict[str, str]:
    """Path → what is wrong; archived ones are left out."""
    from akasha_stream.errors import ObjectArchived
    from akasha_stream.tiers.checked import checked_stream

    found: dict[str, str] = {}
    with progress_bar("reading", len(store.catalog)) as advance:
        for segment in store.catalog.segments:
            place = await store.place(segment.tier)
            try:
                async for _ in checked_stream(place.adapter, place.bucket, await store.open(segment)):
                    pass
            except ObjectArchived:
                pass
            except (SegmentCorrupt, StorageError) as error:
                found[segment.path] = str(error)
            advance()
    return found


def report(out: Output, store: SegmentStore, damaged: dict[str, str]) -> list[str]:
    """Print what there is; the problems, in words."""
    from akasha_stream.tiers.copies import leftovers
    from akasha_stream.tiers.tiling import Gap
    from akasha_stream.tiers.words import bytes_in_words

    catalog = store.catalog
    tiers = []
    for tier in store.configured:
        inside = [segment for segment in catalog.segments if segment.tier == tier]
        tiers.append(
            {
                "tier": tier,
                "segments": len(inside),
                "rows": sum(segment.footer.rows for segment in inside),
                "bytes": sum(segment.size for segment in inside),
                "archived": sum(map(store.is_archived, inside)) + sum(each == tier for each, _ in store.archived),
                "error": store.unreachable.get(tier),
            }
        )
    gaps = [str(each) for each in catalog.problems if isinstance(each, Gap)]
    overlaps = [str(each) for each in catalog.problems if not isinstance(each, Gap)]
    corrupt = [why for _, why in store.corrupt.items()] + list(damaged.values())
    copies = {each.segment.place for each in leftovers(catalog)}
    counting = {segment.key for log in catalog.logs for segment in catalog.current(log)}
    superseded = [segment.path for segment in catalog.segments if segment.key not in counting]
    out.table(
        ("tier", "segments", "rows", "size", "archived", "error"),
        [
            (
                each["tier"],
                f"{each['segments']:,}",
                f"{each['rows']:,}",
                bytes_in_words(int(str(each["bytes"]))),
                each["archived"],
                each["error"] or "",
            )
            for each in tiers
        ],
        right=("segments", "rows", "size", "archived"),
    )
    out.line(
        f"{len(catalog.logs)} logs; {len(gaps)} gaps, {len(overlaps)} overlaps, {len(corrupt)} damaged; "
        f"{len(superseded)} superseded and {len(copies)} old copies to be deleted, {len(store.foreign)} foreign objects"
    )
    for each in (*gaps, *overlaps, *corrupt):
        out.line(f"  {each}")
    out.result(
        {
            "logs": [
                {
                    "topic": log.topic,
                    "partition": log.partition,
                    "segments": len(catalog.current(log)),
                    "start": catalog.current(log)[0].key.start,
                    "end": catalog.end(log),
                }
                for log in sorted(catalog.logs, key=lambda each: (each.topic, each.partition))
            ],
            "tiers": tiers,
            "gaps": gaps,
            "overlaps": overlaps,
            "corrupt": corrupt,
            "superseded": superseded,
            "old_copies": sorted(path for _, path in copies),
            "foreign": [path for _, path in store.foreign],
            "archived_unknown": [path for _, path in store.archived],
        }
    )
    unreachable = [f"tier {tier}: {why}" for tier, why in store.unreachable.items()]
    return [*unreachable, *gaps, *overlaps, *corrupt]


def fail_with(problems: list[str]) -> None:
    """Raises StorageError where there are any."""
    if problems:
        raise StorageError(f"{len(problems)} problems, the first: {problems[0]}")
