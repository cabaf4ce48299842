"""One search's reads of bodies that are in object stores, and what it could not read.

Rows of an archived object are answered from the bit codes. Of two vectors whose signs differ in h of d dimensions the
cosine is estimated as cos(pi h / d), which holds for signs along random directions (Charikar, 2002). On 20,000 real
MiniLM vectors and 200 queries (d = 384) its error has a standard deviation of .05; among the rows with the highest
estimates it is too high by .02 to .06; 99 % are within .18.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from akasha_stream.errors import ObjectArchived, SegmentCorrupt
from akasha_stream.search.query import Incomplete
from akasha_stream.search.segment import Fetched, RemoteView, SegmentView

MARGIN = 0.12
"""Rows whose estimate is lower than the last hit by more than this hardly belong among the hits."""

type Wanted = tuple[RemoteView, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Body:
    """Texts of a row; `metadata` is canonical JSON."""

    content: str
    model: str
    metadata: str


@dataclass(frozen=True, slots=True)
class Cosines:
    """Of those rows that something is known of."""

    rows: NDArray[np.int64]
    cosine: NDArray[np.float32]
    estimated: NDArray[np.bool_] | None
    """None: of none"""


class RemoteReads:
    """Of one search, in its thread. All that it reads has to come within one `Bodies.timeout_s`."""

    def __init__(self) -> None:
        self._deadline: float | None = None
        self._missing: dict[tuple[str, str], Incomplete] = {}
        self._bytes: dict[tuple[int, str], int] = {}
        self._archived: set[tuple[int, str]] = set()

    @property
    def incomplete(self) -> list[Incomplete]:
        """One entry an object that could not be read, or was not restored where that matters."""
        return list(self._missing.values())

    def bytes_read(self, view: SegmentView) -> int:
        return self._bytes.get(_key(view), 0)

    def archived(self, view: SegmentView) -> bool:
        """Whether it has to be restored, as far as it was asked for."""
        return _key(view) in self._archived

    def cosines(self, wanted: Sequence[Wanted], query: NDArray[np.float32], code: NDArray[np.uint8]) -> list[Cosines]:
        """To `query`, of length 1, whose bit code is `code`."""
        results = [np.empty(len(rows), np.float32) for _, rows in wanted]

        def use(number: int, places: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
            norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
            results[number][places] = (vectors @ query) / norms

        return [
            self._known(view, rows, cosine, fetched.unread, code)
            for (view, rows), cosine, fetched in zip(wanted, results, self._vectors(wanted, use), strict=True)
        ]

    def vectors(self, wanted: Sequence[Wanted]) -> list[dict[int, list[float]]]:
        """Row → vector, of each row that could be read."""
        results: list[dict[int, list[float]]] = [{} for _ in wanted]

        def use(number: int, places: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
            rows = wanted[number][1][places].tolist()
            results[number].update(zip(rows, vectors.tolist(), strict=True))

        self._vectors(wanted, use)
        return results

    def texts(self, wanted: Sequence[Wanted]) -> list[dict[int, Body]]:
        """Row → texts, of each row that could be read."""
        results: list[dict[int, Body]] = [{} for _ in wanted]

        def use(number: int, places: NDArray[np.int64], texts: pa.RecordBatch) -> None:
            rows = wanted[number][1][places].tolist()
            results[number].update((row, Body(**each)) for row, each in zip(rows, texts.to_pylist(), strict=True))

        self._texts(wanted, use)
        return results

    def metadata_possible(
        self, wanted: Sequence[Wanted], test: Callable[[pa.ChunkedArray[pa.StringScalar]], NDArray[np.bool_] | None]
    ) -> list[NDArray[np.bool_]]:
        """Which of the wanted rows `test` lets through, given a metadata column; of what can't be read, none."""
        results = [np.zeros(len(rows), np.bool_) for _, rows in wanted]

        def use(number: int, places: NDArray[np.int64], texts: pa.RecordBatch) -> None:
            passed = test(pa.chunked_array([texts.column("metadata")], pa.string()))
            results[number][places] = True if passed is None else passed

        for (view, _), fetched in zip(wanted, self._texts(wanted, use), strict=True):
            if len(fetched.unread):
                self.untested(view, len(fetched.unread))
        return results

    def untested(self, view: RemoteView, rows: int) -> None:
        """Metadata conditions could not be tested on so many of its rows, which are left out."""
        if self.archived(view):
            self._lacks(view, "needs_restore", f"the metadata of {rows} rows can't be tested until it is restored")

    def uncertain(self, view: RemoteView, rows: int) -> None:
        """So many of its rows may belong among the hits: their similarity is estimated."""
        self._lacks(view, "needs_restore", f"{rows} more rows may be among the nearest: it must be restored to know")

    def _known(
        self,
        view: RemoteView,
        rows: NDArray[np.int64],
        cosine: NDArray[np.float32],
        unread: NDArray[np.int64],
        code: NDArray[np.uint8],
    ) -> Cosines:
        if not len(unread):
            return Cosines(rows, cosine, None)
        if self.archived(view):
            cosine[unread] = estimated_cosine(view.codes[rows[unread]], code)
            estimated = np.zeros(len(rows), np.bool_)
            estimated[unread] = True
            return Cosines(rows, cosine, estimated)
        read = np.ones(len(rows), np.bool_)
        read[unread] = False
        return Cosines(rows[read], cosine[read], None)

    def _vectors(self, wanted: Sequence[Wanted], use: Any) -> list[Fetched]:
        if not wanted:
            return []
        bodies = wanted[0][0].bodies
        return self._noted(wanted, bodies.vectors(wanted, use, self._until(bodies.timeout_s)))

    def _texts(self, wanted: Sequence[Wanted], use: Any) -> list[Fetched]:
        if not wanted:
            return []
        bodies = wanted[0][0].bodies
        return self._noted(wanted, bodies.texts(wanted, use, self._until(bodies.timeout_s)))

    def _until(self, timeout_s: float) -> float:
        if self._deadline is None:
            self._deadline = time.monotonic() + timeout_s
        return self._deadline

    def _noted(self, wanted: Sequence[Wanted], fetched: list[Fetched]) -> list[Fetched]:
        for (view, _), each in zip(wanted, fetched, strict=True):
            key = _key(view)
            self._bytes[key] = self._bytes.get(key, 0) + each.bytes_read
            if isinstance(each.error, ObjectArchived):
                self._archived.add(key)
            elif each.error is not None:
                reason: Literal["segment_corrupt", "tier_unreachable"]
                reason = "segment_corrupt" if isinstance(each.error, SegmentCorrupt) else "tier_unreachable"
                self._lacks(view, reason, f"its rows are missing: {each.error}")
        return fetched

    def _lacks(
        self, view: RemoteView, reason: Literal["segment_corrupt", "tier_unreachable", "needs_restore"], what: str
    ) -> None:
        # The first reason stands: what follows it is mostly its consequence.
        self._missing.setdefault(
            (view.tier, view.path),
            Incomplete(
                reason=reason,
                partition=view.partition,
                tier=view.tier,
                path=view.path,
                detail=f"{view.tier} tier, {view.path}: {what}",
            ),
        )


def estimated_cosine(codes: NDArray[np.uint8], code: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n,) of rows with bit codes (n, d / 8) to a query with (1, d / 8); see above for its error."""
    differ = np.bitwise_count(codes ^ code).sum(axis=1, dtype=np.int64)
    cosine: NDArray[np.float32] = np.cos(np.pi * differ / (8 * codes.shape[1])).astype(np.float32)
    return cosine


def _key(view: SegmentView) -> tuple[int, str]:
    return view.partition, view.name
