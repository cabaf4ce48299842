"""Make again what is derived: a shard, the lookups, the catalog."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from akasha_stream.cli.audited import audited
from akasha_stream.cli.context import Output, operator_settings, output, settings
from akasha_stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from akasha_stream.rebuild.shard import ShardRebuild
    from akasha_stream.settings import Settings

command = typer.Typer(help=__doc__, no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")]


@command.command()
def shard(
    ctx: typer.Context,
    partitions: Annotated[list[int], typer.Argument(min=0, metavar="PARTITION...", help="Whose shard.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would be made of, and change nothing.")
    ] = False,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Though the old files have what nothing else has, or can't be read.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a partition's shard in `hot.data_dir` again, from its segments in the object store and the rest from Kafka.

    For files that are damaged, or not trusted. The worker of the directory must be stopped; the old files stay until
    the new shard is whole. Refused where they have what neither the object store nor Kafka has.

    \b
    Examples:
      akasha-stream rebuild shard 3 --dry-run
      akasha-stream rebuild shard 3
    """
    configured, out = operator_settings(ctx), output(json)
    chosen = sorted(set(partitions))
    with audited(configured, "rebuild shard", dry_run=dry_run, partitions=chosen, accept_loss=accept_loss):
        found = asyncio.run(_shards(configured, chosen, dry_run=dry_run, accept_loss=accept_loss))
    from dataclasses import asdict

    _show_shards(out, found)
    out.result({"dry_run": dry_run, "shards": [asdict(each) for each in found]})


async def _shards(
    configured: Settings, partitions: Sequence[int], *, dry_run: bool, accept_loss: bool
) -> list[ShardRebuild]:
    from akasha_stream.cli.progress import ProgressBar
    from akasha_stream.rebuild.directory import data_directory
    from akasha_stream.rebuild.shard import plan, rebuild
    from akasha_stream.topics.incarnation import log_incarnation
    from akasha_stream.topics.reader import reading

    topic = configured.topics.embeddings
    async with reading(configured.broker, topic) as reader, data_directory(configured) as directory:
        now = await log_incarnation(configured.broker, topic)
        plans = [await plan(directory, reader, partition, now) for partition in partitions]
        for each in plans if not (dry_run or accept_loss) else ():
            if each.only_here:
                raise UsageError(
                    f"partition {each.partition}: only its old files have {'; '.join(each.only_here)}. Nothing was "
                    "changed; --accept-loss makes the shard without them"
                )
            if each.unreadable is not None and each.removed:
                raise UsageError(
                    f"partition {each.partition}: its files can't be read ({each.unreadable}), and of the log neither "
                    f"the object store nor Kafka has the {each.removed} offsets before {each.start}. Nothing was "
                    "changed; --accept-loss makes the shard of what there is"
                )
        if not dry_run:
            with ProgressBar() as bar:
                for each in plans:
                    await rebuild(configured, directory, reader, each, now, report=bar.update)
        return plans


def _show_shards(out: Output, found: Sequence[ShardRebuild]) -> None:
    out.table(
        ("part", "segments", "rows", "from", "to", "events", "live rows"),
        [
            (
                each.partition,
                each.segments,
                f"{each.stored_rows:,}",
                each.start,
                each.end,
                f"{each.events:,}",
                "-" if each.live_rows is None else f"{each.live_rows:,}",
            )
            for each in found
        ],
        right=("part", "segments", "rows", "from", "to", "events", "live rows"),
    )
    for each in found:
        for lost in each.only_here:
            out.line(f"partition {each.partition}: only its old files {_have(each)} {lost}")
        if each.unreadable is not None:
            out.line(f"partition {each.partition}: its old files could not be read: {each.unreadable}")
        if each.changed is not None:
            out.line(
                f"partition {each.partition}: {each.changed.came:,} rows came, {each.changed.went:,} went, "
                f"{each.changed.changed:,} changed"
            )


def _have(each: ShardRebuild) -> str:
    return "have" if each.live_rows is None else "had"


@command.command()
def lookups(
    ctx: typer.Context,
    partition: Annotated[
        list[int] | None, typer.Option("--partition", min=0, metavar="N", help="Only this one; may be repeated.")
    ] = None,
    url: Annotated[
        list[str] | None, typer.Option("--url", metavar="URL", help="A worker besides those of the registry in Redis.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="How long workers may take.")] = 300.0,
    json: Json = False,
) -> None:
    """Make the Redis tables again from the shards: by the workers, or from the data directory where none has them.

    Searches and lookups go on meanwhile: readers see that a table is incomplete, and ask the shards.

    \b
    Examples:
      akasha-stream rebuild lookups --partition 3
    """
    from dataclasses import asdict

    from akasha_stream.cli.progress import ProgressBar
    from akasha_stream.rebuild.lookups import rebuild_lookups

    configured, out = operator_settings(ctx), output(json)
    with audited(configured, "rebuild lookups", partitions=partition), ProgressBar() as bar:
        tables = asyncio.run(
            rebuild_lookups(
                configured,
                partition or (),
                url or (),
                timeout_s=timeout,
                report=lambda done, of: bar.update("tables", done, of),
            )
        )
    out.table(
        ("part", "systems", "identities", "by"),
        [(each.partition, f"{each.systems:,}", f"{each.identities:,}", each.by) for each in tables],
        right=("part", "systems", "identities"),
    )
    out.result({"tables": [asdict(each) for each in tables]})


@command.command()
def catalog(ctx: typer.Context, json: Json = False) -> None:
    """Delete the local copy of the catalog and make it from listings and footers alone; exit code 1 on problems.

    Nothing is lost by it: the footers are read again (one or two requests a segment).

    \b
    Examples:
      akasha-stream rebuild catalog
    """
    from akasha_stream.cli.segments import fail_with, report
    from akasha_stream.cli.stored import tier_store
    from akasha_stream.tiers.folder import footers_folder

    configured, out = settings(ctx), output(json)

    async def run() -> list[str]:
        async with tier_store(configured, topic=None, out=out) as store:
            return report(out, store, {})

    with audited(configured, "rebuild catalog"):
        for file in footers_folder(configured).glob("footers-*.json"):
            file.unlink(missing_ok=True)
        problems = asyncio.run(run())
    fail_with(problems)
