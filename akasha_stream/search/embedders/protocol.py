"""What turns text into vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Embedder(Protocol):
    dimensions: int
    model: str

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts), dimensions), each of length 1. Raises EmbedderFailed."""
        ...


def normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1. A zero row stays zero, which the caller refuses."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (vectors / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)
    return unit
