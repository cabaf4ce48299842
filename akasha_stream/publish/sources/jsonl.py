"""JSON lines, from a file or from stdin: one event a line."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
import pyarrow as pa

from akasha_stream.errors import SourceError
from akasha_stream.events.bundles import wire_schema
from akasha_stream.publish.sources.checkpoint import Checkpoint
from akasha_stream.publish.sources.columns import OURS, time_column
from akasha_stream.publish.sources.source import Chunk, NumberedPlaces, Options, Source

EDGE = 4_096
"""Bytes at the start of the file, and before the checkpoint, by which the file is recognised."""

_ADVICE = {
    "event_id": "lines without event_id: name theirs with --column event_id=NAME, or make one of the content with "
    "--content-ids",
    "source_system": "lines without source_system: name theirs with --source-system NAME",
}


class _Bad(Exception):
    """A line that is no event, and why."""

    def __init__(self, why: str, *, unfinished: bool = False) -> None:
        super().__init__(why)
        self.unfinished = unfinished


class JsonlSource(Source):
    """The checkpoint is a byte offset and a line number. A file that has grown goes on there; one whose first or
    last published bytes differ is published from its start. Stdin has none."""

    kind = "jsonl"

    def __init__(self, path: Path | None, options: Options, checkpoint: Checkpoint | None) -> None:
        super().__init__(options)
        self._checkpoint = checkpoint if path is not None else None
        self._where = str(path) if path is not None else "stdin"
        try:
            self._file: BinaryIO = path.open("rb") if path is not None else sys.stdin.buffer
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror}") from error
        self._unread: list[tuple[int, str, str]] = []
        """What `checked` is told of the chunk's lines."""
        self._offset = self._line = 0
        saved = self._checkpoint.load() if self._checkpoint else None
        if saved is not None:
            if saved.get("edges") == self._edges(int(saved["offset"])):
                self._offset, self._line = int(saved["offset"]), int(saved["line"])
                self.skipped = self._line
                self.left_out_before = int(saved.get("left_out", 0))
            else:
                self.notes.append(f"{self._where} is another file than the one published before: from its start")
        if path is not None:
            self._file.seek(self._offset)

    def _edges(self, offset: int) -> list[str]:
        """Hashes of the first and the last bytes before an offset."""
        edges = []
        # A handle of its own: the checkpoint is saved while another thread reads lines.
        with Path(self._where).open("rb") as file:
            for start in (0, max(0, offset - EDGE)):
                file.seek(start)
                edges.append(hashlib.sha256(file.read(min(EDGE, offset - start))).hexdigest())
        return edges

    def chunks(self) -> Iterator[Chunk]:
        offset, line = self._offset, self._line
        left = self.options.max_rows
        while left is None or left > 0:
            want = self.options.chunk_rows if left is None else min(left, self.options.chunk_rows)
            documents: list[dict[str, Any]] = []
            numbers: list[int] = []
            self._unread = []
            read = lacking = 0
            ended = False
            while read < want and lacking < self.options.embed_rows:
                text = self._file.readline()
                if not text:
                    ended = True
                    break
                whole = text.endswith(b"\n")
                try:
                    document = self._parse(text, whole=whole)
                except _Bad as bad:
                    self._unread.append((len(documents), f"line {line + 1}", str(bad)))
                    if bad.unfinished:
                        # Somebody may still be writing this line: not counted as read, so the next run sees it.
                        ended = True
                        break
                    document = None
                line += 1
                offset += len(text)
                read += 1
                if document is not None:
                    documents.append(document)
                    numbers.append(line)
                    lacking += document["embedding"] is None
            rows = self._rows(documents, numbers)
            if read:
                if left is not None:
                    left -= read
                yield Chunk(rows, read, (offset, line))
            if ended:
                return

    def _parse(self, text: bytes, *, whole: bool) -> dict[str, Any] | None:
        """The event's fields under our names; None for an empty line. Raises _Bad."""
        if not text.strip():
            return None
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            end = "" if whole else " (the last line, without an end: read again next time)"
            raise _Bad(f"no JSON: {error.msg} at character {error.pos}{end}", unfinished=not whole) from None
        if not isinstance(document, dict):
            raise _Bad("no JSON object")
        names = self.options.columns
        fields = {ours: document.get(names.get(ours, ours)) for ours in OURS}
        if fields["event_id"] is None and "event_id" not in names:
            fields["event_id"] = document.get("id")
        if fields["event_id"] is None and self.options.content_ids and isinstance(fields["content"], str):
            fields["event_id"] = hashlib.sha256(fields["content"].encode()).hexdigest()[:32]
        if fields["source_system"] is None:
            fields["source_system"] = self.options.source_system
        for name in ("event_id", "source_system"):
            if fields[name] is None and (advice := _ADVICE[name]) not in self.notes:
                self.notes.append(advice)
        return self._typed(fields)

    def _typed(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Fields that fit their columns. Raises _Bad."""
        if isinstance(fields["event_id"], int) and not isinstance(fields["event_id"], bool):
            fields["event_id"] = str(fields["event_id"])
        for name in ("event_id", "source_system", "content", "model", "op", "created_at"):
            if fields[name] is not None and not isinstance(fields[name], str):
                raise _Bad(f"{name} is {type(fields[name]).__name__}, wanted is a string (field_type)")
        metadata = fields["metadata"]
        if metadata is not None and not isinstance(metadata, str):
            fields["metadata"] = orjson.dumps(metadata).decode()
        if fields["embedding"] is not None:
            try:
                vector = np.asarray(fields["embedding"], dtype=np.float32)
            except (TypeError, ValueError):
                raise _Bad("embedding is no list of numbers (field_type)") from None
            if vector.shape != (self.options.limits.dimensions,):
                raise _Bad(f"embedding has not {self.options.limits.dimensions} numbers (vector_length)")
            fields["embedding"] = vector
        if fields["created_at"] is not None:
            try:
                parsed = time_column(pa.array([fields["created_at"]]), self.options.timezone, "")
            except SourceError as error:
                raise _Bad(str(error).removeprefix(": ")) from None
            fields["created_at"] = parsed[0].as_py()
        return fields

    def _rows(self, documents: list[dict[str, Any]], numbers: list[int]) -> pa.RecordBatch:
        dimensions = self.options.limits.dimensions
        schema = wire_schema(dimensions)
        columns: dict[str, Any] = {}
        for field in schema:
            values = [document[field.name] for document in documents]
            if field.name == "embedding":
                blank = np.zeros(dimensions, dtype=np.float32)
                flat = np.concatenate([blank if value is None else value for value in values] or [blank[:0]])
                mask = pa.array([value is None for value in values], pa.bool_())
                columns[field.name] = pa.FixedSizeListArray.from_arrays(pa.array(flat), type=field.type, mask=mask)
            else:
                columns[field.name] = pa.array(values, field.type)
        return self.checked(pa.table(columns), NumberedPlaces(self._where, "line", numbers=numbers), self._unread)

    def acknowledge(self, chunk: Chunk) -> None:
        assert isinstance(chunk.mark, tuple)
        self._offset, self._line = chunk.mark

    def save(self, token: str) -> None:
        if self._checkpoint is not None:
            edges = self._edges(self._offset)
            place = {"offset": self._offset, "line": self._line}
            about = {"path": self._where, "token": token, "left_out": self.left_out}
            self._checkpoint.save({"edges": edges, **place, **about})

    def close(self) -> None:
        if self._file is not sys.stdin.buffer:
            self._file.close()
