"""What is left of neighbouring segments when they become one: no I/O.

A row is dropped when it is
- replaced or deleted: there is a newer row of its identity in the range, or the caller says so (`masked`);
- of a forgotten system;
- expired, by the retention of its system. Where an older version of it may lie before the range, a delete takes its
  place: else the older one would count again.

A delete is dropped
- like any row, when there is a newer row of its identity;
- when the range begins where the partition's history begins, so that it has nothing left to delete.

That a delete is dropped then only, and not as soon as no current segment has an older version, keeps a worker harmless
that lost its partition and puts late what it merged before: whatever older version it brings lies in a range that the
one merged here covers, so it is superseded. And of each identity the newest row always stays, so a late segment can
only bring rows that the newest one masks. Rows that are not spilled yet come later than any segment: they mask, and are
masked by nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from akasha_stream.tiers.changelog import DELETE
from akasha_stream.tiers.forgotten import Forgotten
from akasha_stream.tiers.identities import NO_KEYS, Keys, identity_keys
from akasha_stream.tiers.keys import LogId
from akasha_stream.tiers.retention import Retention

DECIDING = ("position", "source_system", "event_id", "op", "created_at", "appended_at")
"""The columns that decide which rows stay; some 100 bytes a row."""

_OF_UPSERTS = ("content", "embedding", "code", "model", "metadata", "payload_hash", "content_hash")

NO_POSITIONS: NDArray[np.int64] = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Earlier:
    """What is known of the segments before a range, earlier incarnations of the log included."""

    nothing: bool = False
    """There are none, and none that could not be listed or read."""
    identities: Keys | None = None
    """Ascending, of all their rows; None: not known."""

    def may_have(self, keys: Keys) -> NDArray[np.bool_]:
        """(n,)"""
        if self.nothing or self.identities is None:
            return np.full(len(keys), not self.nothing)
        at = np.searchsorted(self.identities, keys)
        at[at == len(self.identities)] = 0
        return self.identities[at] == keys if len(self.identities) else np.zeros(len(keys), np.bool_)


UNKNOWN = Earlier()
NOTHING = Earlier(nothing=True, identities=NO_KEYS)


@dataclass(frozen=True, slots=True)
class Leaving:
    """What a rewrite leaves out.

    `masked`: positions of rows that rows outside the range have replaced or deleted. Only those whose replacement or
    delete is spilled itself: until it is, reading the log again must find what dedupe found the first time.
    """

    masked: NDArray[np.int64] = field(default_factory=lambda: NO_POSITIONS)
    forgotten: Forgotten = field(default_factory=Forgotten)
    retention: Retention | None = None
    earlier: Earlier = UNKNOWN


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows of the inputs, one after another, that stay; in the order of a changelog.

    `expired`: those of them that stay as deletes. The figures count what was dropped.
    """

    rows: NDArray[np.int64]
    expired: NDArray[np.bool_]
    forgotten: int
    superseded: int
    expired_rows: int
    deletes: int


def decide(log: LogId, rows: pa.Table, leaving: Leaving) -> Kept:
    """`rows`: DECIDING (or more) of the inputs, one after another."""
    position = rows["position"].to_numpy()
    forgotten = leaving.forgotten.masks(log, rows["source_system"], position)
    newest = _newest(rows, np.flatnonzero(~forgotten), position)
    live = newest & ~np.isin(position, leaving.masked)
    deleted = pc.equal(rows["op"], pa.scalar(DELETE)).to_numpy()
    expired = np.zeros(len(position), np.bool_)
    if leaving.retention is not None:
        appended = rows["appended_at"].cast(pa.int64()).to_numpy()
        expired = live & ~deleted & leaving.retention.expired(rows["source_system"], appended)
    as_delete = expired.copy()
    if expired.any():
        at = np.flatnonzero(expired)
        taken: Any = rows.select(["source_system", "event_id"]).take(at)
        as_delete[at] = leaving.earlier.may_have(identity_keys(taken["source_system"], taken["event_id"]))
    done = live & deleted if leaving.earlier.nothing else np.zeros(len(position), np.bool_)
    stays = np.flatnonzero(live & ~done & (~expired | as_delete))
    created = rows["created_at"].cast(pa.int64()).to_numpy()
    stays = stays[np.lexsort((position[stays], created[stays]))]
    return Kept(
        rows=stays,
        expired=expired[stays],
        forgotten=int(forgotten.sum()),
        superseded=int((~forgotten & ~live).sum()),
        expired_rows=int(expired.sum()),
        deletes=int(done.sum()),
    )


def merge(log: LogId, tables: Sequence[pa.Table], leaving: Leaving) -> pa.Table:
    """The changelog of the range that `tables` (changelogs of neighbouring or overlapping segments) have together."""
    together = pa.concat_tables(tables)
    kept = decide(log, together, leaving)
    return as_deletes(together.take(kept.rows), kept.expired)


def as_deletes(changelog: pa.Table, expired: NDArray[np.bool_]) -> pa.Table:
    """A changelog in one chunk, the expired rows as deletes."""
    if not expired.any():
        return changelog.combine_chunks()
    whole: Any = pa.array(np.arange(len(expired)), mask=expired)  # a null takes a null
    for name in _OF_UPSERTS:
        at = changelog.schema.get_field_index(name)
        changelog = changelog.set_column(at, changelog.schema.field(at), changelog[name].take(whole))
    at = changelog.schema.get_field_index("op")
    op = pc.if_else(pa.array(expired), pa.scalar(DELETE), changelog["op"])
    return changelog.set_column(at, changelog.schema.field(at), op).combine_chunks()


def _newest(rows: pa.Table, among: NDArray[np.int64], position: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) the row with the greatest position of each identity, of those `among`; by names, not by hashes."""
    order = among[np.argsort(-position[among], kind="stable")]
    names = rows.select(["source_system", "event_id"]).take(order)
    first = (
        names.append_column("at", pa.array(np.arange(len(order))))
        .group_by(["source_system", "event_id"])
        .aggregate([("at", "min")])["at_min"]
        .to_numpy()
    )
    found = np.zeros(len(position), np.bool_)
    found[order[first]] = True
    return found
