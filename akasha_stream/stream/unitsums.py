"""Exact sums of unit vectors: the same bits in any order, on any machine.

A float sum depends on the order of its terms and on the width of the machine's vector registers, so the
centroid of a window would depend on how its events came in batches. Integers have neither problem:

1. each vector is scaled by a power of two and rounded to integers of at most 2**20 (about 1e-6 of its
   largest component, well under what an embedding model means);
2. its squared length is a sum of at most 4,096 integers of 2**40, exact in float64 in any order;
3. each component times 2**30 / length (three correctly rounded IEEE operations) is rounded to an integer;
4. those add up exactly: in float64 within a block of rows, in int64 beyond (2**33 vectors fit).

The length is taken out because everything else here compares by cosine, and because vectors are untrusted:
one of length 1e30 would otherwise be the whole centroid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

UNIT_SCALE = float(2**30)
# 256 rows of 384 float64 are 0.8 MB: a block stays in the L2 cache from one step to the next.
_BLOCK_ELEMENTS = 256 * 384


def quantised_units(vectors: NDArray[np.float32], out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """(m, d) integers in float64: each finite row at length 2**30, rounded. A row of zeros stays zeros; d ≤ 4,096."""
    if out is None:
        out = np.empty(vectors.shape, dtype=np.float64)
    _, exponent = np.frexp(np.abs(vectors).max(axis=1))
    np.multiply(vectors, np.ldexp(1.0, 20 - exponent)[:, None], out=out)
    np.rint(out, out=out)
    length = np.sqrt(np.vecdot(out, out))
    length[length == 0] = 1.0
    out *= (UNIT_SCALE / length)[:, None]
    return np.rint(out, out=out)


def unit_sums(vectors: NDArray[np.float32], bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """(g, d) sums of `quantised_units` over consecutive rows.

    `bounds`: (g,) first row of each group, ascending; a group ends where the next begins and may be empty.
    """
    rows, dimensions = vectors.shape
    totals = np.zeros((len(bounds), dimensions), dtype=np.int64)
    step = max(1, _BLOCK_ELEMENTS // dimensions)
    scratch = np.empty((min(step, rows), dimensions), dtype=np.float64)
    edges = [*bounds.tolist(), rows]
    group = 0
    for begin in range(0, rows, step):
        end = min(begin + step, rows)
        block = quantised_units(vectors[begin:end], out=scratch[: end - begin])
        while True:
            low, high = max(edges[group], begin), min(edges[group + 1], end)
            if low < high:
                # float64 holds the block's sum exactly: 2**30 a term, far fewer than 2**23 terms.
                totals[group] += block[low - begin : high - begin].sum(axis=0).astype(np.int64)
            if edges[group + 1] > end or group + 1 == len(bounds):
                break
            group += 1
    return totals
