"""A picture of the embedding space: a sample of the events in the plane in which they differ most (PCA)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from akasha_stream.auth.systems import EVERY, Systems
from akasha_stream.search.filters import codes_of, of_systems
from akasha_stream.search.segment import HotStore, LocalView, is_local
from akasha_stream.search.snapshot import snapshot

MOST_SAMPLED = 5_000
TEXT_CHARACTERS = 160
_SUBSPACE = 10
_ITERATIONS = 8
_NOTHING = 1e-10
"""Variance of a vector below which rounding is all that differs."""


class MapPoint(BaseModel):
    """An event on the map."""

    source_system: str
    event_id: str
    x: float = Field(description="from -1 to 1")
    y: float = Field(description="from -1 to 1, in the scale of x")
    text: str = Field(description=f"the first {TEXT_CHARACTERS} characters of its content")


class EmbeddingMap(BaseModel):
    """A sample of the events that this worker holds, in two dimensions."""

    points: list[MapPoint]
    rows: int = Field(description="events that could have been sampled")
    left_out: int = Field(description="events whose vectors are in an object store only: none is on the map")
    explained: tuple[float, float] = Field(description="share of the sample's variance along x and y, 0 to 1")
    partitions: list[int] = Field(description="those of this worker; events of others are not on the map")


@dataclass(frozen=True, slots=True)
class Projection:
    """`xy`: (n, 2) from -1 to 1; `explained`: share of the variance along each."""

    xy: NDArray[np.float32]
    explained: tuple[float, float]


def project(vectors: NDArray[np.float32]) -> Projection:
    """PCA of (n, d) vectors, by direction alone, as a search compares them.

    The sign of an axis, which PCA leaves open, is chosen by its largest component: the same events never flip over.
    """
    n = len(vectors)
    if n < 2:
        return Projection(np.zeros((n, 2), np.float32), (0.0, 0.0))
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    centred: NDArray[np.float32] = (units - units.mean(axis=0)).astype(np.float32)
    total = float(np.square(centred).sum())
    if total <= _NOTHING * n:
        return Projection(np.zeros((n, 2), np.float32), (0.0, 0.0))
    scores, variances = _two_largest(centred)
    xy = scores / np.abs(scores).max()
    first, second = (round(float(v) / total, 4) for v in variances)
    return Projection(xy.astype(np.float32), (first, second))


def _two_largest(centred: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(n, 2) scores along the two axes of the largest variance, and those variances times n.

    By subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4): for 2,000 vectors a tenth of the time of
    all eigenvectors of their covariance, which took .6 s of CPU on two cores.
    """
    width = min(_SUBSPACE, *centred.shape)
    basis = np.random.default_rng(0).normal(size=(centred.shape[1], width)).astype(np.float32)
    for _ in range(_ITERATIONS):
        basis, _ = np.linalg.qr(centred.T @ (centred @ basis))
    _, sizes, rotation = np.linalg.svd(centred @ basis, full_matrices=False)
    axes = basis @ rotation.T[:, :2]
    axes *= np.where(np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0) < 0, -1, 1)
    scores, variances = np.zeros((len(centred), 2), np.float32), np.zeros(2, np.float32)
    scores[:, : axes.shape[1]] = centred @ axes
    variances[: axes.shape[1]] = np.square(sizes[:2])
    return scores, variances


def draw(
    store: HotStore, sample: int, cutoffs: Callable[[], NDArray[np.int64] | None], within: Systems = EVERY
) -> EmbeddingMap:
    """In a thread. The sample is spread evenly over the log, and the same as long as the rows are.

    `cutoffs`: by system code, the time (microseconds) before which a row has expired. `within`: of these systems alone.
    """
    owned = store.owned()
    views = snapshot(store)
    expired, seen = cutoffs(), codes_of(within, store.codes)
    found: list[tuple[LocalView, NDArray[np.int64]]] = []
    left_out = 0
    for view, live in views:
        mask = live[: view.rows].copy()
        if expired is not None:
            mask &= view.appended_at[: view.rows] >= expired[view.systems[: view.rows]]
        if seen is not None:
            mask &= of_systems(view.systems[: view.rows], seen)
        rows = np.flatnonzero(mask)
        if is_local(view):
            found.append((view, rows))
        else:
            left_out += len(rows)
    total = sum(len(rows) for _, rows in found)
    chosen = _spread(found, min(sample, total), total)
    vectors = [view.vectors(rows) for view, rows in chosen if len(rows)]
    projection = project(np.concatenate(vectors)) if vectors else Projection(np.zeros((0, 2), np.float32), (0.0, 0.0))
    texts = [row for view, rows in chosen if len(rows) for row in view.texts(rows.tolist())]
    points = [
        MapPoint.model_construct(
            source_system=row.source_system,
            event_id=row.event_id,
            x=round(x, 4),
            y=round(y, 4),
            text=(row.content or "")[:TEXT_CHARACTERS],
        )
        for row, (x, y) in zip(texts, projection.xy.tolist(), strict=True)
    ]
    return EmbeddingMap(points=points, rows=total, left_out=left_out, explained=projection.explained, partitions=owned)


def _spread(
    found: Sequence[tuple[LocalView, NDArray[np.int64]]], sample: int, total: int
) -> list[tuple[LocalView, NDArray[np.int64]]]:
    """Of all rows in a line, `sample` at even distances."""
    places = np.arange(sample, dtype=np.int64) * total // max(sample, 1)
    chosen, start = [], 0
    for view, rows in found:
        here = places[(places >= start) & (places < start + len(rows))] - start
        chosen.append((view, rows[here]))
        start += len(rows)
    return chosen
