"""Embeddings for rows that have none, made of their contents."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

EMBED_ROWS = 256
"""A chunk has at most so many rows without an embedding: a text takes some 10 ms, and Ctrl-C waits for the chunk."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """What makes vectors of texts."""

    model: str
    vectors: Callable[[list[str]], NDArray[np.float32]]
    """Texts → (n, dimensions). Called in the thread that reads the source. Raises EmbedderFailed."""


def embedded(
    rows: Any, without: Iterable[int], models: Any, embed: Embedding | None
) -> tuple[Any, int, dict[int, str]]:
    """The rows, with the embeddings that they lacked; how many were made; and of those that still lack one, why.

    without: the rows that lack nothing else.
    models: (n,) what the rows themselves say of their model; None: nothing. What is made names the embedder's.
    """
    texts: dict[int, str] = {}
    lacking: dict[int, str] = {}
    for row in without:
        content = rows.column("content")[row].as_py()
        model = None if models is None else models[row].as_py()
        if embed is None:
            lacking[row] = "no embedding, and no embedder"
        elif not (content or "").strip():
            lacking[row] = "no embedding, and no content to make one of"
        elif model not in (None, embed.model):
            lacking[row] = f"no embedding, and its model {model!a:.60} is not the embedder's, {embed.model}"
        else:
            texts[row] = content
    if embed is None or not texts:
        return rows, 0, lacking
    given = _mask(rows.column("embedding").is_valid())
    made = np.zeros(rows.num_rows, np.bool_)
    made[list(texts)] = True
    at = rows.schema.get_field_index("embedding")
    field = rows.schema.field(at)
    matrix = np.zeros((rows.num_rows, field.type.list_size), np.float32)
    present: Any = rows.column("embedding").filter(pa.array(given)).flatten()
    matrix[given] = present.to_numpy(zero_copy_only=False).reshape(-1, field.type.list_size)
    matrix[made] = embed.vectors(list(texts.values()))
    rows = rows.set_column(
        at,
        field,
        pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), type=field.type, mask=pa.array(~given & ~made)),
    )
    at = rows.schema.get_field_index("model")
    named = pc.if_else(pa.array(made), embed.model, rows.column("model"))
    return rows.set_column(at, rows.schema.field(at), named), len(texts), lacking


def _mask(values: Any) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = values.to_numpy(zero_copy_only=False)
    return mask
