"""Which segments belong in a colder tier, and why: by age, by size, by how often they are searched. Without I/O.

A segment holds rows of many systems, and moves as one: its age limits are the longest that any of its systems has. So
`systems` with a longer age (or null: never) holds back every segment in which that system has a row, and one with a
shorter age moves those segments alone that have no other system in them.

The ages decide first. A segment that was searched `keep_searches` times within `keep_within_s` stays in its tier. Then
the sizes: a tier over its limit gives up segments until it is not, whatever the ages say, the least searched first,
and of those the oldest; those that a system's own limits hold go last. Every log gives up the same share: so the
workers, of which each moves its own logs and knows its own searches only, come to the limit together.

Nothing moves to a hotter tier by itself: `akasha-stream tiers migrate` does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from akasha_stream.settings import TierPolicy
from akasha_stream.storage.settings import TIERS, TierName
from akasha_stream.tiers.access import Searches
from akasha_stream.tiers.catalog import Catalog
from akasha_stream.tiers.copies import segments_of
from akasha_stream.tiers.keys import LogId
from akasha_stream.tiers.stored_segment import StoredSegment
from akasha_stream.tiers.words import bytes_in_words, span_in_words

_SECONDS = {"warm": "warm_after_s", "cold": "cold_after_s"}


@dataclass(frozen=True, slots=True)
class Move:
    segment: StoredSegment
    to: TierName
    reason: str


def plan(
    catalog: Catalog,
    searches: Searches,
    now: float,
    settings: TierPolicy,
    *,
    tiers: Sequence[TierName] = TIERS,
    logs: Collection[LogId] | None = None,
) -> list[Move]:
    """The moves that `settings` want, in log order.

    `now`: seconds since the epoch. `tiers`: those that there are; a move goes to the next one there is. `logs`: only
    their segments are moved (None: all); the sizes are those of the whole catalog.
    """
    segments = segments_of(catalog)
    wanted: dict[int, TierName] = {}
    reasons: defaultdict[int, list[str]] = defaultdict(list)
    for number, segment in enumerate(segments):
        wanted[number] = segment.tier
        by_age = _by_age(segment, now, settings, tiers)
        if by_age is not None and not _kept(segment, searches, now, settings):
            wanted[number], reason = by_age
            reasons[number].append(reason)
    for tier, limit in (("hot", settings.hot_max_bytes), ("warm", settings.warm_max_bytes)):
        colder = next((each for each in tiers if TIERS.index(each) > TIERS.index(tier)), None)
        if limit is None or colder is None:
            continue
        inside = [number for number in wanted if wanted[number] == tier]
        inside.sort(key=lambda number: _worth(segments[number], searches, now, settings))
        for number in _overflow(segments, inside, limit):
            wanted[number] = colder
            reasons[number].append(f"{tier} holds more than {bytes_in_words(limit)}")
    return [
        Move(segment, wanted[number], "; ".join(reasons[number]))
        for number, segment in enumerate(segments)
        if wanted[number] != segment.tier and (logs is None or segment.key.log in logs)
    ]


def after_s(segment: StoredSegment, tier: TierName, settings: TierPolicy) -> float:
    """The age (s) at which a segment moves to `tier`; infinity: never."""
    field = _SECONDS[tier]
    systems = segment.footer.systems
    own = [name for name in settings.systems if name in systems and systems[name].upserts]
    limits = [_of_system(name, field, settings) for name in own]
    if not own or len(own) < sum(counts.upserts > 0 for counts in systems.values()):
        limits.append(getattr(settings, field))
    return max(math.inf if limit is None else limit for limit in limits)


def _of_system(system: str, field: str, settings: TierPolicy) -> float | None:
    own = settings.systems.get(system)
    of: object = own if own is not None and field in own.model_fields_set else settings
    limit: float | None = getattr(of, field)
    return limit


def age_s(segment: StoredSegment, now: float, settings: TierPolicy) -> float:
    """Since its newest event, or since its object was written; of one with nothing but deletes always the latter."""
    newest = segment.footer.last_created_at
    if settings.age_of == "object" or newest is None:
        return now - segment.modified.timestamp()
    return now - newest / 1e6


def _by_age(
    segment: StoredSegment, now: float, settings: TierPolicy, tiers: Sequence[TierName]
) -> tuple[TierName, str] | None:
    age = age_s(segment, now, settings)
    for tier in reversed(tiers):
        if tier == "hot" or TIERS.index(tier) <= segment.tier_rank:
            continue
        if age >= (limit := after_s(segment, tier, settings)):
            since = "in its tier for" if settings.age_of == "object" else "newest event before"
            return tier, f"{since} {span_in_words(age)}, {tier} after {span_in_words(limit)}"
    return None


def _recent(segment: StoredSegment, searches: Searches, now: float, settings: TierPolicy) -> int:
    return searches.since(segment.key, now - settings.keep_within_s) if settings.keep_searches else 0


def _kept(segment: StoredSegment, searches: Searches, now: float, settings: TierPolicy) -> bool:
    return 0 < settings.keep_searches <= _recent(segment, searches, now, settings)


def _overflow(segments: Sequence[StoredSegment], inside: Sequence[int], limit: int) -> list[int]:
    """Of the segments with these numbers, all of one tier, worth least first: those that are too many."""
    total = sum(segments[number].size for number in inside)
    if total <= limit:
        return []
    of: defaultdict[LogId, list[int]] = defaultdict(list)
    for number in inside:
        of[segments[number].key.log].append(number)
    found: list[int] = []
    for each in of.values():
        left = sum(segments[number].size for number in each)
        allowed = left * limit / total
        for number in each:
            if left <= allowed:
                break
            left -= segments[number].size
            found.append(number)
    return found


def _worth(
    segment: StoredSegment, searches: Searches, now: float, settings: TierPolicy
) -> tuple[bool, int, float, int]:
    """What is worth least in its tier comes first."""
    held = any(name in segment.footer.systems and _holds(name, settings) for name in settings.systems)
    return held, _recent(segment, searches, now, settings), -age_s(segment, now, settings), segment.key.start


def _holds(system: str, settings: TierPolicy) -> bool:
    """Whether a system's own ages are longer than the general ones."""
    for field in _SECONDS.values():
        own, general = _of_system(system, field, settings), getattr(settings, field)
        if general is not None and (own is None or own > general):
            return True
    return False
