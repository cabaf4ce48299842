"""Which source a path is, and its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from akasha_stream.errors import SourceError, UsageError
from akasha_stream.publish.sources.checkpoint import Checkpoint, state_path
from akasha_stream.publish.sources.source import Options, Source

type Kind = Literal["parquet", "jsonl", "session-buddy"]

SUFFIXES: dict[str, Kind] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".duckdb": "session-buddy",
    ".db": "session-buddy",
}


def kind_of(path: Path) -> Kind:
    """By content, else by suffix. SourceError when neither says anything."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error
    if head.startswith(b"PAR1"):
        return "parquet"
    if head[8:12] == b"DUCK":
        return "session-buddy"
    if head.lstrip().startswith(b"{"):
        return "jsonl"
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise SourceError(f"{path}: neither Parquet nor JSON lines nor a DuckDB file; say which with --from")
    return kind


def open_source(
    path: Path | None,
    kind: Kind | None,
    options: Options,
    *,
    topic: str,
    log: str | None,
    restart: bool = False,
) -> Source:
    """Open a source with its checkpoint for one topic.

    path: None is stdin (JSON lines).
    log: which log the topic is (`akasha_stream.topics.incarnation`); None where that is not known, or in a
        dry run: then nothing is remembered.
    restart: forget what was published before.
    """
    if path is None:
        from akasha_stream.publish.sources.jsonl import JsonlSource

        if kind not in (None, "jsonl"):
            raise UsageError(f"stdin can only be JSON lines, not {kind}")
        return JsonlSource(None, options, None)
    path = path.expanduser().resolve()
    if kind is None:
        kind = kind_of(path)
    source = f"{kind}:{path}"
    if kind == "session-buddy":
        from akasha_stream.publish.sources.seen import Seen
        from akasha_stream.publish.sources.session_buddy import SessionBuddySource

        seen = Seen(state_path(f"{source}:{options.source_system}", topic, log, ".sqlite") if log else None)
        if restart:
            seen.clear()
        return SessionBuddySource(path, options, seen)
    checkpoint = Checkpoint(state_path(source, topic, log)) if log else None
    if restart and checkpoint is not None:
        checkpoint.remove()
    if kind == "parquet":
        from akasha_stream.publish.sources.parquet import ParquetSource

        return ParquetSource(path, options, checkpoint)
    from akasha_stream.publish.sources.jsonl import JsonlSource

    return JsonlSource(path, options, checkpoint)
