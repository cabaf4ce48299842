"""Forget a source system: no row of it stays in any tier, and a report says what was done and what is left.

    1  "forgotten noted"          the ledger has it (forgotten.py): from now on everyone masks its rows, and whatever
                                  is rewritten is rewritten without them
    2  "compaction stored"        each segment with rows of it is rewritten in its tier, as compaction does it
    3  "forgotten deleted"        the old objects are deleted, at once: a search that reads one finds it gone, loads
                                  the catalog and asks again
    4  "state stripped"           windows and counters that are kept beside the segments
    5  everything is listed and read again; what still has a row of it is `left`

A crash anywhere leaves rows that are masked; the same call made again goes on. What is archived, damaged or in a tier
that can't be reached stays, masked, and is reported with what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from akasha_stream.errors import ObjectArchived, SegmentCorrupt, StorageError
from akasha_stream.hot.durable import passed
from akasha_stream.hot.end_state import state_without
from akasha_stream.storage.settings import TierName
from akasha_stream.tiers.clean_up import covering
from akasha_stream.tiers.compact_group import compact_group
from akasha_stream.tiers.forgotten import Forgotten, load_forgotten, note_forgotten, system_hash
from akasha_stream.tiers.keys import LogId, is_state, parse_state
from akasha_stream.tiers.names import read_names
from akasha_stream.tiers.stored_segment import StoredSegment

if TYPE_CHECKING:
    from akasha_stream.tiers.segment_store import SegmentStore

log = structlog.get_logger(__name__)

ROUNDS = 3
"""Of rewriting and looking again: another worker may move or rewrite a segment meanwhile."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """`new` is None in a dry run."""

    tier: TierName
    old: str
    new: str | None
    removed: int
    rows_left: int
    bytes: int
    bytes_left: int


@dataclass(frozen=True, slots=True)
class Left:
    """An object that has, or may have, rows of the system."""

    tier: TierName
    path: str
    why: str
    what_to_do: str
    rows: int | None = None
    """None: not known."""


@dataclass(slots=True)
class ForgetReport:
    """`ends`: rows below these offsets are forgotten; later ones of the same system are new ones and stay."""

    system: str
    dry_run: bool
    ends: dict[LogId, int]
    ledger: str | None = None
    rewritten: list[Rewritten] = field(default_factory=list)
    deleted: list[tuple[TierName, str]] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    checked: int = 0
    """Segments whose rows or footers were read at the end, and have no row of it."""
    left: list[Left] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not self.left

    @property
    def rows(self) -> int:
        return sum(each.removed for each in self.rewritten)


async def forget_system(
    store: SegmentStore, system: str, *, ends: Mapping[LogId, int] | None = None, dry_run: bool = False
) -> ForgetReport:
    """Remove every row of a system from all tiers. Loads the whole catalog, of all topics.

    `ends`: per log the offset of its control message (events/forget.py), where there is one: what came after it is
    new. Of other logs all that is in the tiers now. Safe beside running workers, and to be made again at any time.

    Raises:
        StorageError: the ledger could not be written or read; nothing was rewritten then.
        SegmentCorrupt: the ledger is damaged.
    """
    await store.load()
    wanted = {of: store.catalog.end(of) or 0 for of in store.catalog.logs}
    for of, end in (ends or {}).items():
        # Where the broker does not tell the lives of a topic apart, an earlier one's offsets go further.
        wanted[of] = end if of.incarnation.topic_id is not None else max(end, wanted.get(of, 0))
    report = ForgetReport(system, dry_run, wanted)
    if dry_run:
        forgotten = (await load_forgotten(store)).only(system).with_system(system, wanted)
        for segment, rows in await _having(store, forgotten, report):
            estimate = segment.footer.rows - rows
            size = segment.size * estimate // segment.footer.rows
            report.rewritten.append(Rewritten(segment.tier, segment.path, None, rows, estimate, segment.size, size))
        return report
    report.ledger = await note_forgotten(store, system_hash(system), wanted)
    passed("forgotten noted")
    forgotten = (await load_forgotten(store)).only(system)
    report.ends = forgotten.ends(system)
    for _ in range(ROUNDS):
        report.left.clear()
        having = await _having(store, forgotten, report)
        if not having:
            break
        for segment, rows in having:
            await _rewrite(store, segment, rows, forgotten, report)
        await _delete(store, [segment for segment, _ in having], report)
        await store.load()
    await _strip_states(store, report)
    await _verify(store, forgotten, report)
    log.info(
        "system forgotten",
        segments=len(report.rewritten),
        rows=report.rows,
        deleted=len(report.deleted),
        left=len(report.left),
    )
    return report


async def _having(store: SegmentStore, forgotten: Forgotten, report: ForgetReport) -> list[tuple[StoredSegment, int]]:
    """Segments with forgotten rows and how many, superseded ones too, in log order. What can't be told is `left`."""
    found: list[tuple[StoredSegment, int]] = []
    report.checked = 0
    for segment in sorted(store.catalog.segments, key=lambda s: (s.key.start, s.key.end, s.key.generation)):
        if not forgotten.may_touch(segment.key.log, segment.footer.systems, segment.key.start):
            report.checked += 1
            continue
        rows = await _counted(store, segment, forgotten, report)
        if rows is None:
            continue
        if rows:
            found.append((segment, rows))
        else:
            report.checked += 1
    for tier, why in store.unreachable.items():
        report.left.append(Left(tier, "", why, "make the tier reachable, then forget again"))
    for (tier, path), why in store.corrupt.items():
        report.left.append(Left(tier, path, why, "restore the object from a backup or delete it, then forget again"))
    for tier, path in store.archived:
        report.left.append(Left(tier, path, "archived, and nothing is known of it", _RESTORE))
    return found


async def _rows(store: SegmentStore, segment: StoredSegment, forgotten: Forgotten) -> int:
    names = await read_names(store, segment, ("position", "source_system"))
    return int(forgotten.masks(segment.key.log, names["source_system"], names["position"].to_numpy()).sum())


_RESTORE = "restore the object (akasha-stream tiers restore), then forget again; until then its rows are masked"


def _left(segment: StoredSegment, error: Exception, rows: int | None = None) -> Left:
    match error:
        case ObjectArchived():
            todo = _RESTORE
        case SegmentCorrupt():
            todo = "restore the object from a backup or delete it, then forget again"
        case _:
            todo = "forget again when the store answers"
    return Left(segment.tier, segment.path, str(error), todo, rows)


async def _rewrite(
    store: SegmentStore, segment: StoredSegment, rows: int, forgotten: Forgotten, report: ForgetReport
) -> None:
    if segment not in store.catalog.current(segment.key.log):
        return  # superseded: what stands for it is, or will be, without such rows
    try:
        done = await compact_group(store, [segment], forgotten=forgotten)
    except (StorageError, SegmentCorrupt) as error:
        report.left.append(_left(segment, error, rows))
        return
    if done.new is None:
        log.info("segment not rewritten, looking again", path=segment.path, why=done.why)
        return
    new = done.new
    report.rewritten.append(
        Rewritten(segment.tier, segment.path, new.path, rows, new.footer.rows, segment.size, new.size)
    )


async def _delete(store: SegmentStore, having: list[StoredSegment], report: ForgetReport) -> None:
    """Those that a segment without such rows stands for. In log order: forgotten rows hide nobody else's."""
    hot = await store.place("hot")
    for segment in having:
        cover = covering(segment, store.catalog.current(segment.key.log))
        if cover is None:
            continue
        place = await store.place(cover.tier)
        try:
            if await place.adapter.stat(place.bucket, cover.path) is None:
                continue  # moved or rewritten meanwhile: looked at again in the next round
            await hot.adapter.delete(hot.bucket, segment.key.stub_path(hot.prefix))
            await store.delete([segment])
        except StorageError as error:
            report.left.append(_left(segment, error))
            continue
        report.deleted.append(segment.place)
        passed("forgotten deleted")


async def _counted(
    store: SegmentStore, segment: StoredSegment, forgotten: Forgotten, report: ForgetReport
) -> int | None:
    """Forgotten rows of a segment; None: it can't be read, and is `left`."""
    try:
        return await _rows(store, segment, forgotten)
    except (StorageError, SegmentCorrupt) as error:
        report.left.append(_left(segment, error))
        return None


async def _verify(store: SegmentStore, forgotten: Forgotten, report: ForgetReport) -> None:
    """List and read everything again, and what was rewritten by its rows, whatever its footer says."""
    states = [each for each in report.left if is_state(each.path)]
    reasons = {(each.tier, each.path): each for each in report.left}
    report.left.clear()
    await store.load()
    having = await _having(store, forgotten, report)
    report.left += states
    for segment, rows in having:
        back = Left(segment.tier, segment.path, "another worker put it back", "forget again", rows)
        report.left.append(reasons.get(segment.place, back))
    made = {each.new for each in report.rewritten} - {segment.path for segment, _ in having}
    for segment in store.catalog.segments:
        if segment.path in made and (wrong := await _counted(store, segment, forgotten, report)):
            report.left.append(Left(segment.tier, segment.path, "its footer is wrong", "report a bug", wrong))


async def _strip_states(store: SegmentStore, report: ForgetReport) -> None:
    """Windows and counters of the system out of every state that is kept."""
    place = await store.place("hot")
    for of in report.ends:
        listed = [each.path async for each in place.adapter.list(place.bucket, of.folder(place.prefix))]
        for path in listed:
            end = parse_state(path)
            if end is None:
                continue
            try:
                state = await store.state(of, end)
                stripped = None if state is None else state_without(state, report.system, path)
                if stripped is not None:
                    await place.adapter.upload(place.bucket, path, stripped)
                    report.states.append(path)
                    passed("state stripped")
            except (StorageError, SegmentCorrupt) as error:
                report.left.append(Left("hot", path, str(error), "forget again after the next spill"))
