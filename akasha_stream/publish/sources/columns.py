"""From a source's columns to ours: names, times, metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from akasha_stream.errors import SourceError
from akasha_stream.publish.sources.source import Options

ALIASES = {"event_id": ("event_id", "id")}
REQUIRED = ("event_id", "content", "embedding")
OURS = ("event_id", "source_system", "content", "embedding", "model", "metadata", "created_at", "op")


def chosen_columns(names: Sequence[str], options: Options, where: str) -> dict[str, str]:
    """Name of ours → name in the source. SourceError names what is missing."""
    required = [name for name in REQUIRED if name != "embedding" or options.embed is None]
    unknown = [name for name in options.columns if name not in OURS]
    if unknown:
        raise SourceError(f"--column {unknown[0]}: the names are {', '.join(OURS)}")
    chosen: dict[str, str] = {}
    missing: list[str] = []
    for ours in OURS:
        if ours in options.columns:
            theirs = options.columns[ours]
            if theirs in names:
                chosen[ours] = theirs
            else:
                missing.append(theirs)
            continue
        found = next((name for name in ALIASES.get(ours, (ours,)) if name in names), None)
        if found is not None:
            chosen[ours] = found
        elif ours in required:
            missing.append(" or ".join(ALIASES.get(ours, (ours,))))
    if "source_system" not in chosen and options.source_system is None:
        missing.append("source_system (or give --source-system)")
    if missing:
        has = ", ".join(names)
        raise SourceError(f"{where} has no column {', '.join(missing)}; it has {has} (--column OURS=THEIRS)")
    return chosen


def ours(table: pa.Table, chosen: Mapping[str, str], options: Options, where: str) -> pa.Table:
    """The table under our names, its metadata as JSON strings and its times with a zone."""
    columns: dict[str, Any] = {name: table.column(theirs) for name, theirs in chosen.items()}
    if "source_system" not in columns:
        columns["source_system"] = pa.repeat(pa.scalar(options.source_system, pa.string()), table.num_rows)
    elif options.source_system is not None:
        columns["source_system"] = pc.fill_null(columns["source_system"].cast(pa.string()), options.source_system)
    if not pa.types.is_string(columns["event_id"].type) and not pa.types.is_large_string(columns["event_id"].type):
        columns["event_id"] = _as_text(columns["event_id"], where)
    if "metadata" in columns:
        columns["metadata"] = metadata_column(columns["metadata"])
    if "created_at" in columns:
        columns["created_at"] = time_column(columns["created_at"], options.timezone, where)
    return pa.table(columns)


def _as_text(column: Any, where: str) -> Any:
    kind = column.type
    if pa.types.is_fixed_size_binary(kind) or pa.types.is_binary(kind) or pa.types.is_nested(kind):
        raise SourceError(f"{where}: the column of the event id is {kind}, wanted is a string or a number")
    return column.cast(pa.string())


def metadata_column(column: Any) -> Any:
    """JSON strings as they are; structs and maps become JSON."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        return column.cast(pa.string())
    if pa.types.is_map(kind):
        return pa.array([None if row is None else _dumps(dict(row)) for row in column.to_pylist()], pa.string())
    return pa.array([None if row is None else _dumps(row) for row in column.to_pylist()], pa.string())


def _dumps(value: object) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def time_column(column: Any, timezone: str | None, where: str) -> Any:
    """Times in microseconds, UTC. Strings must be ISO 8601; numbers are refused: their unit is not known."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _parsed(column, timezone, where)
    if pa.types.is_date(kind):
        column, kind = column.cast(pa.timestamp("us")), pa.timestamp("us")
    if not pa.types.is_timestamp(kind):
        raise SourceError(f"{where}: created_at is {kind}, wanted is a timestamp or an ISO 8601 string")
    if kind.tz is None:
        if timezone is None:
            raise SourceError(f"{where}: created_at has no time zone; say which with --timezone (UTC, Europe/Berlin …)")
        try:
            column = pc.assume_timezone(column, timezone, ambiguous="earliest", nonexistent="latest")
        except pa.ArrowInvalid as error:
            raise SourceError(f"--timezone {timezone}: {error}") from error
    # Nanoseconds are cut, not refused.
    return column.cast(pa.timestamp("us", "UTC"), safe=False)


def _parsed(column: Any, timezone: str | None, where: str) -> Any:
    import datetime as dt
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        zone = ZoneInfo(timezone) if timezone else None
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise SourceError(f"--timezone {timezone}: no such zone") from error
    times: list[dt.datetime | None] = []
    for text in column.to_pylist():
        if text is None:
            times.append(None)
            continue
        try:
            moment = dt.datetime.fromisoformat(text)
        except ValueError:
            raise SourceError(f"{where}: created_at {text!r} is no ISO 8601 time") from None
        if moment.tzinfo is None:
            if zone is None:
                raise SourceError(f"{where}: created_at {text} has no time zone; say which with --timezone")
            moment = moment.replace(tzinfo=zone)
        times.append(moment)
    return pa.array(times, pa.timestamp("us", "UTC"))
