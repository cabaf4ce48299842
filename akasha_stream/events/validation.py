"""The rules of an event, over all events of a fetch at once. No rule loops over good rows in Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from akasha_stream.events.metadata import canonical_column
from akasha_stream.events.model import DEFAULT_MODEL
from akasha_stream.events.refusals import Refusals
from akasha_stream.settings import Limits

SMALLEST_SQUARE = 1e-36
LARGEST_SQUARE = 1e36
"""Of a vector's length: outside of these, 1/length or a dot product leaves float32."""


class Columns:
    """n events in the wire schema, fully validated as Arrow; `check` applies the rules and fills in defaults.

    Afterwards the string columns have no nulls in rows that are not refused, and deletes are blank.
    """

    def __init__(self, batch: pa.RecordBatch, limits: Limits) -> None:
        column: dict[str, Any] = {name: batch.column(name) for name in batch.schema.names}
        self._limits = limits
        self._batch = batch
        self.refusals = Refusals(batch.num_rows)
        self.event_id: pa.StringArray = column["event_id"]
        self.source_system: pa.StringArray = column["source_system"]
        self.content: Any = column["content"]
        self.model: Any = column["model"]
        self.metadata: Any = column["metadata"]
        self._op: Any = column["op"]
        self._vectors: Any = column["embedding"]
        self._times: Any = column["created_at"]
        self.delete: NDArray[np.bool_] = np.zeros(batch.num_rows, dtype=np.bool_)
        self.embedding: NDArray[np.float32] = np.empty((0, limits.dimensions), dtype=np.float32)
        self.created_at: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def check(self, keys: pa.BinaryArray, appended_at: NDArray[np.int64]) -> Refusals:
        """keys: (n,) of the records that the events came in; appended_at: (n,) microseconds."""
        self._check_op()
        self._check_present()
        self._check_names(keys)
        self._check_content()
        self._check_vectors()
        self._check_time(appended_at)
        self._check_metadata()
        return self.refusals

    def _check_op(self) -> None:
        if self._op.null_count == len(self._op):
            return
        self.delete = _mask(pc.equal(self._op, pa.scalar("delete")))
        known = self.delete | _mask(pc.equal(self._op, pa.scalar("upsert"))) | _nulls(self._op)
        op = self._op
        self.refusals.refuse_where(~known, "op_unknown", lambda row: f"op is {_shown(op[row].as_py())}")

    def _check_present(self) -> None:
        absent: tuple[tuple[str, Any], ...] = (("event_id", self.event_id), ("source_system", self.source_system))
        for name, column in absent:
            self._refuse_nulls(name, column, None)
        upsert = ~self.delete
        absent = (("content", self.content), ("embedding", self._vectors), ("created_at", self._times))
        for name, column in absent:
            self._refuse_nulls(name, column, upsert)
        # Blank what a delete need not have, default what an upsert may leave out.
        if self.delete.any():
            deletes = pa.array(self.delete)
            self.content = pc.if_else(deletes, "", self.content)
            self.metadata = pc.if_else(deletes, "{}", self.metadata)
            self.model = pc.if_else(deletes, DEFAULT_MODEL, self.model)
        if self.model.null_count:
            self.model = self.model.fill_null(DEFAULT_MODEL)
        if self.metadata.null_count:
            self.metadata = self.metadata.fill_null("{}")

    def _refuse_nulls(self, name: str, column: Any, where: NDArray[np.bool_] | None) -> None:
        if column.null_count:
            nulls = _nulls(column)
            mask = nulls if where is None else nulls & where
            self.refusals.refuse_where(mask, "field_missing", lambda _: f"{name} is absent or null")

    def _check_names(self, keys: pa.BinaryArray) -> None:
        systems: Any = self.source_system
        equal = _mask(pc.equal(systems.view(pa.binary()), keys))
        self.refusals.refuse_where(
            ~equal,
            "key_mismatch",
            lambda row: (
                f"the record's key is {_shown(keys[row].as_py())}, source_system {_shown(systems[row].as_py())}"
            ),
        )
        limits = self._limits
        if limits.source_systems:
            self.refusals.refuse_where(
                ~_mask(_of(systems, limits.source_systems)),
                "source_system_not_allowed",
                lambda row: f"this topic does not carry the source_system {_shown(systems[row].as_py())}",
            )
        self._check_size("source_system", systems, 1, limits.source_system_bytes)
        self._check_size("event_id", self.event_id, 1, limits.event_id_bytes)
        self._check_size("model", self.model, 1, limits.model_bytes)
        for name, column in (("source_system", systems), ("event_id", self.event_id), ("model", self.model)):
            self._check_controls(name, column, strict=True)

    def _check_content(self) -> None:
        self._check_size("content", self.content, 0, self._limits.content_bytes)
        self._check_controls("content", self.content, strict=False)

    def _check_size(self, name: str, column: Any, least: int, most: int) -> None:
        sizes = np.asarray(pc.binary_length(column).fill_null(least))
        self.refusals.refuse_where(
            (sizes < least) | (sizes > most),
            f"{name}_size",
            lambda row: f"{name} has {sizes[row]} bytes, allowed are {least} to {most}",
        )

    def _check_controls(self, name: str, column: Any, *, strict: bool) -> None:
        rows = control_rows(column, strict=strict)
        if len(rows):
            rows = rows[~_nulls(column)[rows]]
            self.refusals.refuse_rows(rows, "control_characters", lambda _: f"{name} has a control character")

    def _check_vectors(self) -> None:
        rows, width = len(self._vectors), self._limits.dimensions
        values = self._vectors.values.slice(self._vectors.offset * width, rows * width)
        if values.null_count:
            holes = _nulls(values).reshape(rows, width).any(axis=1)
            upserts = holes & ~self.delete & ~_nulls(self._vectors)
            self.refusals.refuse_where(upserts, "vector_not_finite", lambda _: "the embedding holds a null")
            values = values.fill_null(0.0)
        flat = values.to_numpy(zero_copy_only=True)
        # Some messages' buffers are not aligned for float32; those are copied.
        vectors = np.require(flat.reshape(rows, width), dtype=np.float32, requirements=["C", "A"])
        if self.delete.any():
            vectors = np.where(self.delete[:, None], np.float32(0), vectors)
        self.embedding = vectors
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            squares = np.einsum("ij,ij->i", vectors, vectors)
            odd = ~((squares >= SMALLEST_SQUARE) & (squares <= LARGEST_SQUARE)) & ~self.delete & ~self.refusals.bad
        for row in np.flatnonzero(odd).tolist():
            self.refusals.refuse(row, *vector_problem(vectors[row]))

    def _check_time(self, appended_at: NDArray[np.int64]) -> None:
        ticks: Any = self._times.view(pa.int64())
        if ticks.null_count:
            missing = _nulls(ticks)
            ticks = np.where(missing, appended_at, ticks.fill_null(0).to_numpy(zero_copy_only=False))
        else:
            ticks = ticks.to_numpy(zero_copy_only=False)
        self.created_at = np.asarray(ticks, dtype=np.int64)
        latest = appended_at + np.int64(self._limits.future_s * 1e6)
        self.refusals.refuse_where(
            (self.created_at < 0) | (self.created_at > latest),
            "created_at_range",
            lambda row: f"created_at is {_time(ticks[row])}, allowed is 1970 to {_time(latest[row])}",
        )

    def _check_metadata(self) -> None:
        bad = self.refusals.bad
        if bad.any():
            # Rows refused for another reason (bad UTF-8, say) are not worth parsing.
            self.metadata = pc.if_else(pa.array(bad), "{}", self.metadata)
        self.metadata = canonical_column(self.metadata, self._limits.metadata_depth, self.refusals.refuse)
        self._check_size("metadata", self.metadata, 2, self._limits.metadata_bytes)


def _of(systems: pa.StringArray, allowed: Sequence[str]) -> Any:
    """A mask: systems that are in `allowed`, or begin as one there that ends in *. By bytes: they may be no UTF-8."""
    rows: Any = pc.is_in(systems, value_set=pa.array(allowed, pa.string()))
    for each in allowed:
        if each.endswith("*"):
            rows = pc.or_kleene(rows, pc.starts_with(systems, pattern=each[:-1]))
    return rows


def control_rows(column: pa.StringArray, *, strict: bool) -> NDArray[np.int64]:
    """Rows with a control character, ascending; strict: tab, line ends, DEL and C1 (U+0080–U+009F) too."""
    rows = len(column)
    _, offset_buffer, data_buffer = column.buffers()
    if rows == 0 or offset_buffer is None or data_buffer is None:
        return np.empty(0, dtype=np.int64)
    # A buffer may be longer than its values, by any number of bytes.
    offsets = np.frombuffer(offset_buffer, np.int32, count=column.offset + rows + 1)[column.offset :]
    data = np.frombuffer(data_buffer, np.uint8)[offsets[0] : offsets[-1]]
    low = data < 0x20
    at = np.flatnonzero(low)
    if strict:
        at = np.append(at, np.flatnonzero(data == 0x7F))
        lead = np.flatnonzero(data[:-1] == 0xC2)  # the first byte of U+0080 to U+00BF
        at = np.append(at, lead[data[lead + 1] < 0xA0])
    else:
        at = at[~np.isin(data[at], (0x09, 0x0A, 0x0D))]
    if not len(at):
        return np.empty(0, dtype=np.int64)
    return np.unique(np.searchsorted(offsets, at + offsets[0], side="right") - 1).astype(np.int64)


def vector_problem(vector: NDArray[np.float32]) -> tuple[str, str]:
    """(reason, detail)"""
    finite = np.isfinite(vector)
    if not finite.all():
        at = int(np.flatnonzero(~finite)[0])
        return "vector_not_finite", f"the embedding has {vector[at]} at place {at}"
    if not vector.any():
        return "vector_zero", "the embedding is all zeros"
    length = float(np.linalg.norm(vector.astype(np.float64)))
    return "vector_magnitude", f"the embedding has the length {length:.3g}, allowed is 1e-18 to 1e18"


def _mask(array: Any) -> NDArray[np.bool_]:
    """A boolean Arrow array as a mask; null is False."""
    if array.null_count:
        array = array.fill_null(False)
    result: NDArray[np.bool_] = array.to_numpy(zero_copy_only=False)
    return result


def _nulls(array: Any) -> NDArray[np.bool_]:
    result: NDArray[np.bool_] = array.is_null().to_numpy(zero_copy_only=False)
    return result


def _shown(value: str | bytes | None) -> str:
    """A hostile value for people: ASCII, and short."""
    return "absent" if value is None else f"{value[:80]!a}"


def _time(ticks: int) -> str:
    return str(np.datetime64(int(ticks), "us")) if abs(int(ticks)) < 2**60 else f"{int(ticks)} µs"
