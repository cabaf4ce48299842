"""The live state of any set of segments, out of their changelogs.

Per identity (source_system, event_id) the row with the greatest position counts, if it is an upsert. That holds for any
set of segments of a topic, overlapping ones too, as an identity always goes to the same partition; so anyone can ask
the bucket as it is. In DuckDB (LIVE_SQL): filter *outside*, never beside the read_parquet: a condition that hides the
newest version of an identity would bring an old one back.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akasha_stream.tiers.changelog import UPSERT

LIVE_SQL = """
SELECT * EXCLUDE (newest) FROM (
    SELECT *, row_number() OVER (PARTITION BY source_system, event_id ORDER BY position DESC) AS newest
    FROM read_parquet(?))
WHERE newest = 1 AND op = 'upsert'
"""
"""The parameter: a list of paths, or a glob such as 's3://bucket/prefix/topic/**/*.parquet'."""


def live(changelogs: pa.Table) -> pa.Table:
    """The rows that count, by position; `changelogs` are the segments' tables one after another."""
    position = changelogs["position"].to_numpy()
    order = np.argsort(-position, kind="stable")
    names = changelogs.select(["source_system", "event_id"]).take(order)
    # By place, not by position: two partitions may have the same one.
    newest = (
        names.append_column("place", pa.array(np.arange(len(order))))
        .group_by(["source_system", "event_id"])
        .aggregate([("place", "min")])["place_min"]
        .to_numpy()
    )
    rows = changelogs.take(order[np.sort(newest)[::-1]])
    return rows.filter(pc.equal(rows["op"], pa.scalar(UPSERT)))
