"""Which rows of a batch are refused, and why; the first reason of a row stands."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


class Refusals:
    """Over n rows: `bad` is their mask, `why` says reason and detail of each bad row."""

    def __init__(self, rows: int) -> None:
        self.bad: NDArray[np.bool_] = np.zeros(rows, dtype=np.bool_)
        self.why: dict[int, tuple[str, str]] = {}

    def refuse(self, row: int, reason: str, detail: str) -> None:
        if not self.bad[row]:
            self.bad[row] = True
            self.why[row] = (reason, detail)

    def refuse_where(self, mask: NDArray[np.bool_], reason: str, detail: Callable[[int], str]) -> None:
        """Refuse the rows of the mask; costs one `any` where there are none."""
        if mask.any():
            for row in np.flatnonzero(mask & ~self.bad).tolist():
                self.refuse(row, reason, detail(row))

    def refuse_rows(self, rows: NDArray[np.int64], reason: str, detail: Callable[[int], str]) -> None:
        for row in rows.tolist():
            if not self.bad[row]:
                self.refuse(row, reason, detail(row))
