"""What is stored in which tier, and moving it: hot, warm, cold."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Annotated

import typer

from akasha_stream.cli.context import output, settings
from akasha_stream.cli.stored import access_record, choose, problems, tier_store
from akasha_stream.cli.tier_options import Json
from akasha_stream.cli.tiers_migrate import migrate
from akasha_stream.cli.tiers_restore import restore
from akasha_stream.cli.tiers_upkeep import apply, clean, compact

command = typer.Typer(help=__doc__, no_args_is_help=True)


class By(StrEnum):
    """What `tiers list` groups by."""

    TIER = "tier"
    SYSTEM = "system"
    MONTH = "month"
    SEGMENT = "segment"


@command.command("list")
def list_(
    ctx: typer.Context,
    by: Annotated[By, typer.Option(help="A line for each of these.")] = By.TIER,
    json: Json = False,
) -> None:
    """Show what is stored in each tier; archived, damaged and unreachable parts are marked.

    The age is that of the oldest and of the newest event. A system's size is its rows' share of the segments.

    \b
    Examples:
      akasha-stream tiers list
      akasha-stream tiers list --by segment
    """
    from akasha_stream.cli.tier_tables import groups

    configured, out = settings(ctx), output(json)

    async def run() -> None:
        async with tier_store(configured, topic=configured.topics.embeddings, out=out) as store:
            found = groups(store, by.value)
            with_tier, counted = by is not By.TIER, by is not By.SEGMENT
            columns = (
                by.value,
                *(("tier",) if with_tier else ()),
                *(("segments",) if counted else ()),
                "rows",
                "size",
                "age",
                "notes",
            )
            rows = [each.cells(with_tier=with_tier, counted=counted) for each in found]
            out.table(columns, rows, right=("segments", "rows", "size", "age"))
            out.result(
                {
                    "by": by.value,
                    "groups": [each.plain() for each in found],
                    "partial": bool(store.unreachable or store.corrupt or store.archived),
                    "problems": problems(store),
                }
            )

    asyncio.run(run())


@command.command()
def show(ctx: typer.Context, segment: Annotated[str, typer.Argument(metavar="SEGMENT")], json: Json = False) -> None:
    """Show one segment: where it is, what is in it, when it moves.

    \b
    Examples:
      akasha-stream tiers show 3:0-50000
    """
    from akasha_stream.cli.tier_tables import segment_details

    configured, out = settings(ctx), output(json)

    async def run() -> None:
        async with tier_store(configured, topic=configured.topics.embeddings, out=out) as store:
            (found,) = choose(store.catalog, [segment])
            details = await segment_details(store, found, access_record(configured), configured.tier_policy)
            out.table(("field", "value"), [(name, _shown(value)) for name, value in details.items()])
            out.result(details)

    asyncio.run(run())


for each in (migrate, restore, apply, compact, clean):
    command.command()(each)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}: {each}" for name, each in value.items())
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return "-" if value is None else str(value)
