"""Parquet files, row group by row group."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from akasha_stream.errors import SourceError
from akasha_stream.publish.sources.checkpoint import Checkpoint
from akasha_stream.publish.sources.columns import chosen_columns, ours
from akasha_stream.publish.sources.source import Chunk, NumberedPlaces, Options, Source


class ParquetSource(Source):
    """Columns as docs/producing.md lists them. The checkpoint is a row number; it holds for this very file only
    (size, time of change, footer): another file under the same name is published from its start."""

    kind = "parquet"

    def __init__(self, path: Path, options: Options, checkpoint: Checkpoint | None) -> None:
        super().__init__(options)
        self._path = path
        self._checkpoint = checkpoint
        try:
            self._file = pq.ParquetFile(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise SourceError(f"{path}: {error}") from error
        self._chosen = chosen_columns(self._file.schema_arrow.names, options, str(path))
        self._identity = self._identify()
        self._row = 0
        saved = checkpoint.load() if checkpoint else None
        if saved is not None:
            if saved.get("file") == self._identity:
                self._row = self.skipped = int(saved["row"])
                self.left_out_before = int(saved.get("left_out", 0))
            else:
                self.notes.append(f"{path.name} is another file than the one published before: from its start")
        self.total = self._file.metadata.num_rows - self._row
        if options.max_rows is not None:
            self.total = min(self.total, options.max_rows)

    def _identify(self) -> dict[str, Any]:
        stat = self._path.stat()
        with self._path.open("rb") as file:
            file.seek(-8, 2)
            length = int.from_bytes(file.read(4), "little")
            file.seek(-8 - length, 2)
            footer = hashlib.sha256(file.read(length)).hexdigest()
        return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "footer": footer}

    def chunks(self) -> Iterator[Chunk]:
        row, start = 0, self._row
        left = self.total or 0
        for group in range(self._file.num_row_groups):
            count = self._file.metadata.row_group(group).num_rows
            if row + count <= start:
                row += count
                continue
            names = list(dict.fromkeys(self._chosen.values()))
            batches = self._file.iter_batches(self.options.chunk_rows, row_groups=[group], columns=names)
            try:
                for batch in batches:
                    after = row + batch.num_rows
                    begin = max(row, start)
                    if after > begin and left > 0:
                        part = batch.slice(begin - row, min(after - begin, left))
                        left -= part.num_rows
                        for at in range(0, part.num_rows, step := self._step(part)):
                            yield self._chunk(pa.Table.from_batches([part.slice(at, step)]), begin + at)
                    row = after
            except (OSError, pa.ArrowInvalid) as error:
                raise SourceError(f"{self._path}: row group {group}: {error}") from error
            if left <= 0:
                return

    def _step(self, part: pa.RecordBatch) -> int:
        """Rows of a chunk: fewer where embeddings have to be made."""
        name = self._chosen.get("embedding")
        return self.options.embed_rows if name is None or part.column(name).null_count else part.num_rows

    def _chunk(self, table: pa.Table, first: int) -> Chunk:
        where = str(self._path)
        rows = self.checked(ours(table, self._chosen, self.options, where), NumberedPlaces(where, "row", first))
        return Chunk(rows, table.num_rows, first + table.num_rows)

    def acknowledge(self, chunk: Chunk) -> None:
        assert isinstance(chunk.mark, int)
        self._row = chunk.mark

    def save(self, token: str) -> None:
        if self._checkpoint is not None:
            about = {"path": str(self._path), "token": token, "left_out": self.left_out}
            self._checkpoint.save({"file": self._identity, "row": self._row, **about})

    def close(self) -> None:
        self._file.close()
