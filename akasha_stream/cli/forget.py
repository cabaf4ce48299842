"""Remove every row of a source system: from the workers, the object stores and the Redis tables."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from akasha_stream.cli.audited import audited
from akasha_stream.cli.context import Output, output, printable, settings
from akasha_stream.cli.exits import FAILED
from akasha_stream.cli.key import Key
from akasha_stream.cli.lag import Urls
from akasha_stream.errors import LookupUnavailable, UsageError

if TYPE_CHECKING:
    from akasha_stream.settings import Settings
    from akasha_stream.tiers.forget import ForgetReport
    from akasha_stream.tiers.keys import LogId


def command(  # noqa: PLR0917  Typer's parameters are options
    ctx: typer.Context,
    system: Annotated[str, typer.Argument(help="The source system.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be rewritten, and change nothing.")
    ] = False,
    broker: Annotated[bool, typer.Option(help="Tell the workers, through Kafka.")] = True,
    store: Annotated[
        bool | None, typer.Option(help="Rewrite what is in the object stores.  [default: tiers.enabled]")
    ] = None,
    url: Urls = None,
    key: Key = None,
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to wait until the workers have rewritten their files.")
    ] = 60.0,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")] = False,
) -> None:
    """Remove every row of a source system; exit code 1 if something is left.

    Events of the system that are published afterwards are stored as new ones. Running it again goes on where it
    stopped. Kafka keeps the records as they were published until the topics' retention removes them.

    \b
    Examples:
      akasha-stream forget laptop --dry-run
      akasha-stream forget laptop --yes
    """
    configured = settings(ctx)
    if not (yes or dry_run):
        _confirm(system)
    out = output(json)
    if store is None:
        store = configured.tiers.enabled
        if not store:
            out.note("tiers.enabled is false: the object stores are not looked at; --store does it all the same")
    with audited(configured, "forget", dry_run=dry_run, system=system):
        done = asyncio.run(
            _forget(configured, system, dry_run=dry_run, broker=broker, store=store, urls=url or (), wait_s=wait_s)
        )
    _show(out, configured, done, dry_run=dry_run)
    out.result(_plain(done))
    if done.left and not dry_run:
        raise typer.Exit(FAILED)


def _confirm(system: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError("forget removes data for good: confirm with --yes, or look first with --dry-run")
    question = f"Remove every row of {printable(system)}, from every tier, for good?"
    if not typer.confirm(question, err=True):
        raise UsageError("nothing was removed")


@dataclass(slots=True)
class _Done:
    """`offsets`: partition → offset of its control message."""

    system: str
    offsets: dict[int, int] = field(default_factory=dict)
    store: ForgetReport | None = None
    lookup_keys: int = 0
    left: list[dict[str, object]] = field(default_factory=list)


async def _forget(
    configured: Settings,
    system: str,
    *,
    dry_run: bool,
    broker: bool,
    store: bool,
    urls: Sequence[str],
    wait_s: float,
) -> _Done:
    done = _Done(system)
    ends: dict[LogId, int] = {}
    if broker and not dry_run:
        done.offsets, ends = await _tell_workers(configured, system)
    if store:
        done.store = await _forget_stored(configured, system, ends, dry_run=dry_run)
        done.left += [asdict(each) for each in done.store.left]
    if configured.redis.enabled and not dry_run:
        stored = () if done.store is None else done.store.ends
        partitions = {*done.offsets, *(of.partition for of in stored if of.topic == configured.topics.embeddings)}
        await _forget_lookups(configured, system, partitions, done)
    if done.offsets:
        from akasha_stream.operations.forgotten import await_forgotten

        for each in await await_forgotten(configured, done.offsets, urls, wait_s):
            done.left.append(_left("local", f"partition {each.partition}", each.why, each.what_to_do))
    return done


async def _tell_workers(configured: Settings, system: str) -> tuple[dict[int, int], dict[LogId, int]]:
    from akasha_stream.events.forget import Forget
    from akasha_stream.publish.forget import publish_forget
    from akasha_stream.tiers.forgotten import system_hash
    from akasha_stream.tiers.keys import LogId
    from akasha_stream.topics.incarnation import log_incarnation

    topic = configured.topics.embeddings
    offsets = await publish_forget(configured, Forget(system_hash(system), datetime.now(UTC)))
    life = await log_incarnation(configured.broker, topic)
    return offsets, {LogId(topic, life, partition): offset for partition, offset in offsets.items()}


async def _forget_stored(configured: Settings, system: str, ends: dict[LogId, int], *, dry_run: bool) -> ForgetReport:
    from akasha_stream.storage import StorageSettings, StorageTiers
    from akasha_stream.tiers.forget import forget_system
    from akasha_stream.tiers.segment_store import SegmentStore

    storage = StorageSettings.load(environment=configured.environment)
    storage.tier("hot")  # raises SettingsError where there is none
    async with StorageTiers(storage) as tiers:
        return await forget_system(SegmentStore(tiers), system, ends=ends, dry_run=dry_run)


async def _forget_lookups(configured: Settings, system: str, partitions: set[int], done: _Done) -> None:
    from akasha_stream.lookups.connection import connect
    from akasha_stream.lookups.forget import forget_lookups, lookups_of
    from akasha_stream.lookups.tables import Keys

    keys = Keys(configured.redis.prefix, configured.topics.embeddings)
    client = connect(configured.redis)
    try:
        done.lookup_keys = await forget_lookups(client, keys, sorted(partitions), system)
        for key in await lookups_of(client, keys, sorted(partitions), system):
            done.left.append(_left("redis", key, "it is there again", "forget again once the workers have caught up"))
    except LookupUnavailable as error:
        done.left.append(_left("redis", "", str(error), "forget again when Redis answers"))
    finally:
        await client.aclose()


def _left(tier: str, path: str, why: str, what_to_do: str) -> dict[str, object]:
    return {"tier": tier, "path": path, "why": why, "what_to_do": what_to_do, "rows": None}


def _show(out: Output, configured: Settings, done: _Done, *, dry_run: bool) -> None:
    report = done.store
    if report is not None:
        if report.rewritten:
            out.table(
                ("tier", "segment", "rows removed", "rows left", "bytes before", "after"),
                [(r.tier, r.new or r.old, r.removed, r.rows_left, r.bytes, r.bytes_left) for r in report.rewritten],
                title="would be rewritten" if dry_run else "rewritten",
                right=("rows removed", "rows left", "bytes before", "after"),
            )
        verb = "would be removed" if dry_run else "removed"
        out.line(f"{report.rows:,} rows {verb} from {len(report.rewritten):,} segments")
        if not dry_run:
            out.line(f"{len(report.deleted):,} old objects deleted, {report.checked:,} segments have no row of it")
    for partition, offset in sorted(done.offsets.items()):
        left = any(each["path"] == f"partition {partition}" for each in done.left)
        what = "told to forget" if left else "nothing is left"
        out.line(f"partition {partition}: {what} below offset {offset}")
    if done.lookup_keys:
        out.line(f"{done.lookup_keys:,} keys removed from Redis")
    for each in done.left:
        out.note(f"left: {each['tier']} {each['path']}: {each['why']}; {each['what_to_do']}")
    topic = configured.topics.embeddings
    out.note(f"Kafka keeps the records of {topic} until its retention; see docs/compaction-and-forgetting.md")


def _plain(done: _Done) -> dict[str, object]:
    report = done.store
    stored = None
    if report is not None:
        stored = asdict(replace(report, ends={}, left=[]))
        stored["ends"] = [
            {**asdict(of.incarnation), "topic": of.topic, "partition": of.partition, "end": end}
            for of, end in report.ends.items()
        ]
        del stored["left"]
    return {
        "system": done.system,
        "offsets": done.offsets,
        "store": stored,
        "lookup_keys": done.lookup_keys,
        "left": done.left,
        "complete": not done.left,
    }
