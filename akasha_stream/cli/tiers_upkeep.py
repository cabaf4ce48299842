"""`tiers apply`, `tiers compact` and `tiers clean`: what workers do by themselves, or need no worker."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from akasha_stream.cli.audited import audited
from akasha_stream.cli.context import output, settings
from akasha_stream.cli.progress import progress_bar
from akasha_stream.cli.stored import tier_store
from akasha_stream.cli.tier_options import DryRun, Json
from akasha_stream.errors import StorageError

if TYPE_CHECKING:
    from akasha_stream.storage import LifecycleRule
    from akasha_stream.tiers.bucket_rules import BucketRules
    from akasha_stream.tiers.clean import Cleaned
    from akasha_stream.tiers.clean_up import Cleaned as CleanedUp
    from akasha_stream.tiers.compact import CompactReport


def apply(ctx: typer.Context, dry_run: DryRun = False, json: Json = False) -> None:
    """Make the rules of the buckets; running it again changes nothing. --dry-run shows the difference.

    One rule each: parts of uploads that nobody completed are removed after 7 days. Moving is the workers'.

    \b
    Examples:
      akasha-stream tiers apply --dry-run
    """
    from akasha_stream.tiers.bucket_rules import apply_rules

    configured, out = settings(ctx), output(json)

    async def run() -> list[BucketRules]:
        async with tier_store(configured, topic=configured.topics.embeddings, out=out) as store:
            return await apply_rules(store, dry_run=dry_run)

    with audited(configured, "tiers apply", dry_run=dry_run):
        found = asyncio.run(run())
    for each in found:
        out.line(f"{each.provider}://{each.bucket} ({', '.join(each.tiers)})")
        if each.unsupported:
            out.line(f"  no rules: {each.unsupported}")
        for sign, rules in (("+", each.added), ("-", each.removed), ("=", each.kept)):
            for rule in rules:
                out.line(f"  {sign} {_rule(rule)}")
    if not any(each.differs or each.unsupported for each in found):
        out.line("The buckets are as they should be.")
    out.result(
        {
            "dry_run": dry_run,
            "buckets": [
                {
                    "provider": each.provider,
                    "bucket": each.bucket,
                    "tiers": each.tiers,
                    "added": [_rule(rule) for rule in each.added],
                    "removed": [_rule(rule) for rule in each.removed],
                    "kept": [_rule(rule) for rule in each.kept],
                    "unsupported": each.unsupported or None,
                }
                for each in found
            ],
        }
    )


def _rule(rule: LifecycleRule) -> str:
    if rule.abort_uploads:
        what = "remove the parts of uploads that were begun"
    elif rule.expire:
        what = "delete objects made"
    else:
        what = f"move to {rule.storage_class} objects made"
    return f"{what} {rule.after_days} days ago, under {rule.prefix or '/'}"


def compact(ctx: typer.Context, dry_run: DryRun = False, json: Json = False) -> None:
    """Merge small segments, and drop rows that were replaced, deleted or are past their retention.

    What they stand for is deleted after compaction.grace_s.

    \b
    Examples:
      akasha-stream tiers compact --dry-run
    """
    from akasha_stream.tiers.compact import compact_logs
    from akasha_stream.tiers.words import bytes_in_words

    configured, out = settings(ctx), output(json)

    async def run() -> CompactReport:
        async with tier_store(configured, topic=configured.topics.embeddings, out=out) as store:
            logs = [log for log in store.catalog.logs if log.topic == configured.topics.embeddings]
            with progress_bar("compacting", None) as advance:
                return await compact_logs(store, logs, dry_run=dry_run, settings=configured, on_progress=advance)

    with audited(configured, "tiers compact", dry_run=dry_run):
        report = asyncio.run(run())
    for problem in report.problems:
        out.note(problem)
    rows = [
        (
            f"{each.log.partition}: {len(each.old)} segments",
            each.tier,
            each.reason,
            f"{each.rows:,} → {each.rows_left:,}",
            f"{bytes_in_words(each.bytes)} → {bytes_in_words(each.bytes_left)}",
            each.why,
        )
        for each in report.groups
    ]
    if rows:
        out.table(("group", "tier", "reason", "rows", "size", "not made because"), rows, right=("rows", "size"))
    else:
        out.line("Nothing to compact.")
    deleted = len(report.cleaned.segments)
    out.line(f"{deleted} superseded segments {'would be ' if dry_run else ''}deleted, {report.cleaned.waiting} wait.")
    out.result(
        {
            "dry_run": dry_run,
            "groups": [
                {
                    "partition": each.log.partition,
                    "tier": each.tier,
                    "reason": each.reason,
                    "old": each.old,
                    "new": each.new,
                    "rows": each.rows,
                    "rows_left": each.rows_left,
                    "bytes": each.bytes,
                    "bytes_left": each.bytes_left,
                    "why": each.why or None,
                }
                for each in report.groups
            ],
            "deleted": [path for _, path in report.cleaned.segments],
            "waiting": report.cleaned.waiting,
            "problems": report.problems,
        }
    )


def clean(ctx: typer.Context, dry_run: DryRun = False, json: Json = False) -> None:
    """Delete what counts no longer: old copies of moved segments, what compaction replaced, lonely stubs and states.

    Never what is younger than the grace times (tier_policy.grace_s, compaction.grace_s). Workers do the same.

    \b
    Examples:
      akasha-stream tiers clean --dry-run
    """
    from akasha_stream.tiers.clean import clean as clean_moved
    from akasha_stream.tiers.clean_up import clean_up
    from akasha_stream.tiers.words import bytes_in_words

    configured, out = settings(ctx), output(json)

    async def run() -> tuple[Cleaned, CleanedUp]:
        async with tier_store(configured, topic=configured.topics.embeddings, out=out) as store:
            moved = await clean_moved(store, grace_s=configured.tier_policy.grace_s, dry_run=dry_run)
            rewritten = await clean_up(store, None, configured.compaction.grace_s, datetime.now(UTC), dry_run=dry_run)
            return moved, rewritten

    with audited(configured, "tiers clean", dry_run=dry_run):
        moved, rewritten = asyncio.run(run())
    deleted = [
        *(("copy", each.segment.tier, each.segment.path, f"is in {each.keeper.tier}") for each in moved.deleted),
        *(("segment", tier, path, "a wider or later one stands for it") for tier, path in rewritten.segments),
        *(("state", tier, path, "a later one is there") for tier, path in rewritten.states),
        *(("stub", "hot", path, "its segment is archived nowhere") for path in moved.stubs),
        *(("stub", tier, path, "its segment is gone") for tier, path in rewritten.stubs if path not in moved.stubs),
    ]
    if deleted:
        out.table(("what", "tier", "path", "because"), deleted)
    waiting = len(moved.waiting) + rewritten.waiting
    verb = "would be deleted" if dry_run else "deleted"
    out.line(f"{len(deleted)} objects {verb} ({bytes_in_words(moved.bytes)} of copies), {waiting} wait for their time.")
    for each in moved.conflicts:
        out.note(
            f"{each.segment.path} is in {each.segment.tier} and in {each.keeper.tier} with different rows: neither is "
            "deleted; compare them with `akasha-stream segments check --bodies`, and delete one by hand"
        )
    out.result(
        {
            "dry_run": dry_run,
            "deleted": [dict(zip(("what", "tier", "path", "because"), each, strict=True)) for each in deleted],
            "bytes": moved.bytes,
            "waiting": waiting,
            "conflicts": [each.segment.path for each in moved.conflicts],
            "failed": moved.failed,
        }
    )
    if moved.failed:
        path, why = next(iter(moved.failed.items()))
        raise StorageError(f"{len(moved.failed)} not deleted: {path}: {why}")
