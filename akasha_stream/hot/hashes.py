"""Hashes that find candidates; what they find is always confirmed against the stored values."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from akasha_stream.events.batch import EventBatch


def identity_key(source_system: str, event_id: str) -> str:
    """One string for an identity; unambiguous, since validation refuses control characters in both."""
    return f"{source_system}\x00{event_id}"


def identity_hash(key: str) -> int:
    return xxh3_64_intdigest(key.encode())


def normalise(content: str) -> str:
    """What content dedupe compares: NFC, runs of white space as one space, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", content).split())


def strings(column: pa.Array[Any] | pa.ChunkedArray[Any]) -> list[str]:
    """The values of a string column without nulls."""
    values: list[Any] = column.to_pylist()
    return values


@dataclass(frozen=True, slots=True)
class Hashed:
    """A batch's values that dedupe works on. Lists, because the dedupe loop reads them one by one."""

    keys: list[str]
    """identity_key of each event"""
    systems: list[str]
    identity: NDArray[np.uint64]
    payload: NDArray[np.uint64]
    """of everything in an upsert but its identity; 0 for deletes"""
    content: NDArray[np.uint64]
    """of source system and normalised content; 0 for deletes"""


def hash_batch(batch: EventBatch) -> Hashed:
    """Hash n events; some 3 µs each, most of it Unicode normalisation and white space."""
    n = len(batch)
    systems, ids, contents = strings(batch.source_system), strings(batch.event_id), strings(batch.content)
    models, metadata = strings(batch.model), strings(batch.metadata)
    created = batch.created_at.tolist()
    deletes = batch.delete.tolist()
    keys = [f"{s}\x00{i}" for s, i in zip(systems, ids, strict=True)]
    identity = np.fromiter((xxh3_64_intdigest(k.encode()) for k in keys), np.uint64, n)
    payload = np.zeros(n, np.uint64)
    content = np.zeros(n, np.uint64)
    vectors = memoryview(np.ascontiguousarray(batch.embedding)).cast("B") if n else memoryview(b"")
    width = len(vectors) // n if n else 0
    for i in range(n):
        if deletes[i]:
            continue
        text = contents[i]
        head = f"{created[i]}\x00{models[i]}\x00{metadata[i]}\x00{text}"
        payload[i] = xxh3_64_intdigest(head.encode() + vectors[i * width : (i + 1) * width])
        content[i] = xxh3_64_intdigest(f"{systems[i]}\x00{normalise(text)}".encode())
    return Hashed(keys, systems, identity, payload, content)
