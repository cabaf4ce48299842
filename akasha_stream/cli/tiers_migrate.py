"""`tiers migrate`"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

from akasha_stream.cli.audited import audited
from akasha_stream.cli.context import Output, output, settings
from akasha_stream.cli.progress import progress_bar
from akasha_stream.cli.stored import access_record, choose, tier_store
from akasha_stream.cli.tier_options import DryRun, Json, Names, Since, System, To, Until
from akasha_stream.errors import StorageError, UsageError

if TYPE_CHECKING:
    from akasha_stream.settings import Settings
    from akasha_stream.storage.settings import TierName
    from akasha_stream.tiers.policy import Move
    from akasha_stream.tiers.run_policy import Moved
    from akasha_stream.tiers.segment_store import SegmentStore
    from akasha_stream.tiers.stored_segment import StoredSegment


def migrate(
    ctx: typer.Context,
    segments: Names = None,
    *,
    to: To = None,
    system: System = None,
    since: Since = None,
    until: Until = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Move segments: those that the policy wants moved, or with --to the chosen ones.

    A move copies. The old copy is deleted after tier_policy.grace_s, by a worker or by `tiers clean`.

    \b
    Examples:
      akasha-stream tiers migrate --dry-run
      akasha-stream tiers migrate --system laptop --until 2026-07-01 --to cold
    """
    configured, out = settings(ctx), output(json)
    chosen = bool(segments or system or since or until)
    if chosen and to is None:
        raise UsageError("say where to: --to hot, warm or cold; without any segment the policy says what moves")
    if to is not None and not chosen:
        raise UsageError("say what: a SEGMENT, --system, --since or --until; without --to the policy says what moves")

    async def run() -> None:
        async with tier_store(configured, topic=configured.topics.embeddings, out=out) as store:
            if to is None:
                moves = _planned(store, configured, out)
            else:
                found = choose(store.catalog, segments, system, since, until)
                moves = _chosen(found, to, named=bool(segments))
            await _migrate(store, moves, configured, out, dry_run=dry_run)

    about = {"segments": segments, "to": to, "system": system, "since": since, "until": until}
    with audited(configured, "tiers migrate", dry_run=dry_run, **about):
        asyncio.run(run())


def _planned(store: SegmentStore, configured: Settings, out: Output) -> list[Move]:
    import time

    from akasha_stream.tiers.policy import plan

    access = access_record(configured)
    if configured.tier_policy.keep_searches and not access:
        out.note("no worker of this machine has counted searches: none keeps a segment in its tier")
    tiers = [tier for tier in store.configured if tier not in store.unreachable]
    moves = plan(store.catalog, access, time.time(), configured.tier_policy, tiers=tiers)
    return [each for each in moves if each.segment.tier in tiers]


def _chosen(segments: list[StoredSegment], to: TierName, *, named: bool) -> list[Move]:
    """By name also one that is in the tier and of another class, as after a restore on Azure."""
    from akasha_stream.tiers.policy import Move

    return [Move(each, to, "asked for") for each in segments if named or each.tier != to]


async def _migrate(store: SegmentStore, moves: list[Move], configured: Settings, out: Output, *, dry_run: bool) -> None:
    from akasha_stream.tiers.run_policy import Moved, move_all
    from akasha_stream.tiers.words import bytes_in_words, span_in_words

    moved = Moved()
    if not dry_run:
        with progress_bar("moving", len(moves)) as advance:
            moved = await move_all(store, moves, advance)
    failed = {each.segment.place: why for each, why in moved.failed}
    gone = {each.segment.place for each in moved.gone}

    def state(each: Move) -> str:
        if dry_run:
            return "would move"
        if each.segment.place in gone:
            return "gone: moved or rewritten by someone else"
        return "failed" if each.segment.place in failed else "moved"

    rows = [
        (
            each.segment.key.short,
            f"{each.segment.tier} → {each.to}",
            bytes_in_words(each.segment.size),
            state(each),
            failed.get(each.segment.place, each.reason),
        )
        for each in moves
    ]
    if rows:
        out.table(("segment", "move", "size", "state", "because"), rows, right=("size",))
    else:
        out.line("Nothing to move.")
    if moved.done:
        grace = span_in_words(configured.tier_policy.grace_s)
        out.line(f"The old copies are deleted after {grace}, by a worker or by `akasha-stream tiers clean`.")
    out.result(
        {
            "dry_run": dry_run,
            "moves": [
                {
                    "segment": each.segment.key.short,
                    "path": each.segment.path,
                    "from": each.segment.tier,
                    "to": each.to,
                    "bytes": each.segment.size,
                    "reason": each.reason,
                    "state": state(each).partition(":")[0].replace(" ", "_"),
                    "error": failed.get(each.segment.place),
                }
                for each in moves
            ],
            "moved_bytes": moved.bytes,
        }
    )
    _fail_with(moved)


def _fail_with(moved: Moved) -> None:
    if moved.failed:
        raise StorageError(f"{len(moved.failed)} not moved, and left where they are: {moved.failed[0][1]}")
