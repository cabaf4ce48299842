"""Test vector embeddings storage.

The guide's tests/test_vector_storage.py. Changed: the package's name, and the batch's vectors, of which the guide's
first is all zeros: it has no direction, and so no similarity to anything.
"""

import pytest

from akasha_stream.storage.vector_embeddings import VectorEmbeddingStorage


@pytest.mark.asyncio
async def test_store_and_search() -> None:
    """Test storing and searching embeddings."""
    storage = VectorEmbeddingStorage()
    await storage.initialize()

    # Store test embedding
    embedding_id = await storage.store_embedding(  # noqa: F841
        embedding_id="test_001",
        content="Test content",
        embedding=[0.1] * 384,
        source_system="test-system",
    )

    # Search for similar embeddings
    results = await storage.search_similar(
        query_embedding=[0.1] * 384,
        limit=10,
        threshold=0.0,
    )

    assert len(results) >= 1
    assert results[0]["id"] == "test_001"
    assert results[0]["similarity"] >= 0.99

    await storage.close()


@pytest.mark.asyncio
async def test_batch_storage() -> None:
    """Test batch storage to Parquet."""
    storage = VectorEmbeddingStorage()
    await storage.initialize()

    # Create test embeddings
    embeddings = [
        {
            "id": f"test_{i:05d}",
            "content": f"Test content {i}",
            "embedding": [0.1 * (i + 1)] * 384,
            "metadata": {"index": i},
        }
        for i in range(100)
    ]

    # Store batch
    path = await storage.store_embeddings_batch(
        embeddings=embeddings,
        source_system="test-system",
        date="2025-01-25",
    )

    assert path.endswith(".parquet")
    assert "test-system" in path

    await storage.close()
