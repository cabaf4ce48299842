"""An embedder for the recipe of docs/replay.md: a text's vector depends on its letters alone."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from akasha_stream.search.embedders.protocol import normalised


class Letters:
    dimensions = 384
    model = "letters-2"

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.array([np.random.default_rng(crc32(text.encode())).normal(size=384) for text in texts], np.float32)
        return normalised(vectors)
