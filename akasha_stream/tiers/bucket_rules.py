"""What the tiers' buckets shall do by themselves, and how that differs from what they do.

One rule a place: remove the parts of uploads that nobody will complete. They are of workers that were killed while they
uploaded, can't be seen, and cost money. More would do harm: a bucket that changes classes or deletes by itself knows
neither what was searched nor what is current, and the segments would be elsewhere than the catalog says. So transitions
are the workers' (policy.py), and what earlier calls of apply_lifecycle() put is taken out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from akasha_stream.errors import UsageError
from akasha_stream.storage.adapter import LifecycleRule, StorageAdapter
from akasha_stream.storage.settings import TierName
from akasha_stream.tiers.segment_store import SegmentStore

ABORT_AFTER_DAYS = 7
"""The adapters give up an upload after minutes; a week is what Google and Azure take by themselves."""


@dataclass(slots=True)
class BucketRules:
    """One bucket. `added`, `removed`: rules. `unsupported`: why it takes none, and what to do instead."""

    provider: str
    bucket: str
    tiers: list[TierName]
    added: list[LifecycleRule] = field(default_factory=list)
    removed: list[LifecycleRule] = field(default_factory=list)
    kept: list[LifecycleRule] = field(default_factory=list)
    unsupported: str = ""

    @property
    def differs(self) -> bool:
        return bool(self.added or self.removed)


async def apply_rules(store: SegmentStore, *, dry_run: bool = False) -> list[BucketRules]:
    """Make each tier's bucket as it shall be; done again, it changes nothing. Others' rules stay.

    Raises StorageError, SettingsError.
    """
    found: list[BucketRules] = []
    wanted: list[list[LifecycleRule]] = []
    adapters: list[StorageAdapter] = []
    buckets: dict[tuple[object, ...], int] = {}
    for tier in store.configured:
        place = await store.place(tier)
        backend = store.tiers.settings.backend(store.tiers.settings.tiers[tier])
        # Of one bucket: the same server, whatever the prefix and class.
        server = backend.model_dump(exclude={"tier", "storage_class", "create_bucket", "prefix"})
        at = buckets.setdefault(tuple(sorted((name, repr(value)) for name, value in server.items())), len(found))
        if at == len(found):
            found.append(BucketRules(place.adapter.provider, place.bucket, []))
            wanted.append([])
            adapters.append(place.adapter)
        found[at].tiers.append(tier)
        rule = LifecycleRule(place.prefix, ABORT_AFTER_DAYS, abort_uploads=True)
        if rule not in wanted[at]:
            wanted[at].append(rule)
    for each, rules, adapter in zip(found, wanted, adapters, strict=True):
        await _apply(each, rules, adapter, dry_run=dry_run)
    return found


async def _apply(each: BucketRules, rules: Sequence[LifecycleRule], adapter: StorageAdapter, *, dry_run: bool) -> None:
    try:
        there = await adapter.lifecycle(each.bucket)
    except UsageError as error:
        each.unsupported = str(error)
        return
    each.added = [rule for rule in rules if rule not in there]
    each.removed = [rule for rule in there if rule not in rules]
    each.kept = [rule for rule in there if rule in rules]
    if each.differs and not dry_run:
        await adapter.apply_lifecycle(each.bucket, rules)
