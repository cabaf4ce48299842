"""What holds of VectorEmbeddingStorage, through a worker and without. Inherited, with the fixture `settings`."""

from __future__ import annotations

import io
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from akasha_stream.errors import UsageError, ValidationError
from akasha_stream.settings import Settings
from akasha_stream.storage import StorageSettings, VectorEmbeddingStorage
from akasha_stream.storage.settings import LocalBackend


def vector(number: int) -> list[float]:
    values: list[float] = np.random.default_rng(number).normal(size=384).astype(np.float32).tolist()
    return values


def warm_tier(root: Path) -> StorageSettings:
    return StorageSettings(
        backends={"local-warm": LocalBackend(bucket_name="warm", root=root, tier="warm", prefix="ours/")},
        tiers={"warm": "local-warm"},
    )


class StoresEmbeddings:
    @pytest.fixture
    async def storage(self, settings: Settings, tmp_path: Path) -> AsyncIterator[VectorEmbeddingStorage]:
        async with VectorEmbeddingStorage(settings=settings, storage_settings=warm_tier(tmp_path)) as storage:
            yield storage

    async def test_stored_is_found(self, storage: VectorEmbeddingStorage) -> None:
        before = datetime.now(UTC)
        stored = await storage.store_embedding("conv_1", "a text", vector(1), "system-1", {"project": "akasha"})
        assert stored == "conv_1"
        (found,) = await storage.search_similar(vector(1))
        assert found.pop("similarity") == pytest.approx(1, abs=1e-5)
        assert before <= found["created_at"] <= datetime.now(UTC)
        got = await storage.get_embedding("conv_1", "system-1")
        assert got is not None
        assert got.pop("embedding") == pytest.approx(vector(1))
        assert got == found
        assert {key: found[key] for key in ("id", "content", "source_system", "metadata")} == {
            "id": "conv_1",
            "content": "a text",
            "source_system": "system-1",
            "metadata": {"project": "akasha"},
        }

    async def test_stored_again_is_replaced(self, storage: VectorEmbeddingStorage) -> None:
        for number in range(3):
            await storage.store_embedding("a", f"version {number}", vector(number), "system-1")
        for number in range(3):
            found = await storage.search_similar(vector(number), threshold=-1.0)
            assert [each["content"] for each in found] == ["version 2"]

    async def test_an_identifier_belongs_to_its_system(self, storage: VectorEmbeddingStorage) -> None:
        for number in (1, 2):
            await storage.store_embedding("a", f"text {number}", vector(number), f"system-{number}")
        assert len(await storage.search_similar(vector(1), threshold=-1.0)) == 2
        await storage.delete_embedding("a", "system-1")
        assert await storage.get_embedding("a", "system-1") is None
        assert [each["source_system"] for each in await storage.search_similar(vector(1), threshold=-1.0)] == [
            "system-2"
        ]

    async def test_a_deleted_one_can_be_stored_again(self, storage: VectorEmbeddingStorage) -> None:
        await storage.delete_embedding("a", "system-1")  # there is none
        await storage.store_embedding("a", "first", vector(1), "system-1")
        await storage.delete_embedding("a", "system-1")
        assert await storage.search_similar(vector(1), threshold=-1.0) == []
        await storage.store_embedding("a", "second", vector(2), "system-1")
        found = await storage.search_similar(vector(2), threshold=-1.0)
        assert [each["content"] for each in found] == ["second"]

    async def test_filter_limit_and_threshold(self, storage: VectorEmbeddingStorage) -> None:
        for number in range(12):
            await storage.store_embedding(f"e{number}", f"text {number}", vector(number), f"system-{number % 3}")
        found = await storage.search_similar(vector(4), ["system-1"], limit=3, threshold=-1.0)
        assert found[0]["id"] == "e4"
        assert [each["source_system"] for each in found] == ["system-1"] * 3
        assert found == sorted(found, key=lambda each: -each["similarity"])
        assert [each["id"] for each in await storage.search_similar(vector(4), [], threshold=0.9)] == ["e4"]
        assert len(await storage.search_similar(vector(4), threshold=-1.0)) == 12
        with pytest.raises(UsageError, match="k"):
            await storage.search_similar(vector(4), limit=0)

    async def test_what_is_no_vector_is_refused(self, storage: VectorEmbeddingStorage) -> None:
        wrong: dict[str, list[Any]] = {
            "vector_zero": [0.0] * 384,
            "vector_not_finite": [math.nan] * 384,
            "vector_length": [1.0] * 383,
            "field_type": ["a"] * 384,
        }
        good = {"id": "b", "content": "good", "embedding": vector(1)}
        for reason, embedding in wrong.items():
            with pytest.raises(ValidationError) as raised:
                await storage.store_embedding("a", "text", embedding, "system-1")
            assert raised.value.reason == reason
            bad = {**good, "id": "c", "embedding": embedding}
            with pytest.raises(ValidationError):
                await storage.store_embeddings_batch([good, bad], "system-1", "2026-01-25")
        assert await storage.search_similar(vector(1), threshold=-1.0) == []

    async def test_secrets_are_redacted(self, storage: VectorEmbeddingStorage) -> None:
        await storage.store_embedding("a", "the key is AKIAIOSFODNN7EXAMPLE", vector(1), "system-1")
        (found,) = await storage.search_similar(vector(1))
        assert "AKIA" not in found["content"]
        assert "[redacted:" in found["content"]

    async def test_a_batch_is_searchable_and_a_parquet_file_of_the_warm_tier(
        self, storage: VectorEmbeddingStorage, tmp_path: Path
    ) -> None:
        hour_ago = datetime.now(UTC) - timedelta(hours=1)
        batch: list[dict[str, Any]] = [
            {"id": f"e{number}", "content": f"text {number}", "embedding": vector(number), "created_at": hour_ago}
            for number in range(300)
        ]
        batch[7]["metadata"] = {"index": 7}
        path = await storage.store_embeddings_batch(batch, "team/a", "2026-01-25")
        assert path.startswith("ours/embeddings/team~2Fa/2026-01-25/batch_")
        assert path.endswith(".parquet")
        (found,) = await storage.search_similar(vector(7))
        assert (found["id"], found["metadata"], found["created_at"]) == ("e7", {"index": 7}, hour_ago)
        assert len(await storage.search_similar(vector(7), limit=500, threshold=-1.0)) == 300
        table = pq.read_table(io.BytesIO((tmp_path / "warm" / path).read_bytes()))
        assert table.column_names == ["id", "content", "embedding", "metadata", "source_system", "created_at"]
        assert table["id"].to_pylist() == [each["id"] for each in batch]
        assert table["embedding"][7].as_py() == vector(7)
        assert table["metadata"][7].as_py() == '{"index":7}'
        assert table["created_at"][7].as_py() == hour_ago

    async def test_a_wrong_batch_is_one_clear_error(self, storage: VectorEmbeddingStorage) -> None:
        good = {"id": "a", "content": "b", "embedding": vector(1)}
        wrong: list[tuple[list[dict[str, Any]], str, str]] = [
            ([{"id": "a", "content": "b"}], "2026-01-25", r"embeddings\[0\] lacks: embedding"),
            ([good, {**good, "vector": 1}], "2026-01-25", r"embeddings\[1\] has an unknown key: vector"),
            ([good], "../2026", "date: found '../2026'"),
            ([], "2026-01-25", "at least one"),
        ]
        for batch, date, says in wrong:
            with pytest.raises(UsageError, match=says):
                await storage.store_embeddings_batch(batch, "system-1", date)

    async def test_closed_and_used_again(self, storage: VectorEmbeddingStorage) -> None:
        await storage.store_embedding("a", "text", vector(1), "system-1")
        await storage.close()
        await storage.close()
        assert [each["id"] for each in await storage.search_similar(vector(1))] == ["a"]
