# mypy: ignore-errors
"""Run by Session-Buddy's own interpreter: a real database by its own functions.

    python session_buddy_make.py PATH adapter|memory FIRST LAST

adapter: ReflectionDatabaseAdapterOneiric creates the tables and stores. memory: session_buddy.memory's schema and
insert_processed_memory, the other code path. Prints the ids as JSON on the last line.
"""

import asyncio
import hashlib
import json
import sys
from pathlib import Path


def vector(text: str) -> "list[float] | None":
    if "silent" in text:
        return None
    import numpy as np

    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    values = np.random.default_rng(seed).normal(size=384)
    return [float(value) for value in (values / np.linalg.norm(values)).astype("float32")]


async def with_adapter(path: str, first: int, last: int) -> "dict[str, str]":
    from session_buddy.adapters.reflection_adapter_oneiric import ReflectionDatabaseAdapterOneiric

    class Adapter(ReflectionDatabaseAdapterOneiric):
        """Its embeddings come from a server on another port; everything else is its own."""

        async def _generate_embedding(self, text: str) -> "list[float] | None":
            return vector(text)

    ids = {}
    async with Adapter(db_path=path) as database:
        for n in range(first, last):
            text = f"conversation {n}{' silent' if n % 5 == 4 else ''}"
            ids[await database.store_conversation(text, {"project": "alpha"})] = text
        for n in range(first, last, 2):
            text = f"reflection {n}"
            ids[await database.store_reflection(text, ["tag"], project="beta")] = text
    return ids


def with_memory(path: str, first: int, last: int) -> "dict[str, str]":
    import duckdb
    from session_buddy.memory import migration, persistence
    from session_buddy.memory.entity_extractor import ProcessedMemory

    with duckdb.connect(path, config={"allow_unsigned_extensions": True}) as connection:
        migration.create_v2_schema(connection)

    class Settings:
        database_path = Path(path)

    persistence.get_settings = Settings
    ids = {}
    for n in range(first, last):
        text = f"memory {n}{' silent' if n % 5 == 4 else ''}"
        memory = ProcessedMemory(
            category="facts",
            subcategory=None,
            importance_score=0.5,
            summary=text,
            searchable_content=text,
            reasoning="because",
            entities=[],
            relationships=[],
            suggested_tier="long_term",
            tags=[],
        )
        result = persistence.insert_processed_memory(memory, text, project="gamma", embedding=vector(text))
        ids[result.memory_id] = text
    return ids


if __name__ == "__main__":
    target, how, start, stop = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    made = asyncio.run(with_adapter(target, start, stop)) if how == "adapter" else with_memory(target, start, stop)
    print(json.dumps(made))  # noqa: T201
