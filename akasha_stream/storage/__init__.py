"""Object stores behind one protocol (S3, GCS, Azure Blob Storage, a local folder), a cache in Redis, and the guide's
VectorEmbeddingStorage.

The public names are imported when they are first used: those that need Oneiric (register_…) cost some seconds then.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from akasha_stream.storage.adapter import Data, LifecycleRule, ObjectInfo, RestoreState, StorageAdapter
    from akasha_stream.storage.azure_adapter import AzureStorageAdapter
    from akasha_stream.storage.breaker import CircuitBreaker
    from akasha_stream.storage.gcs_adapter import GCSStorageAdapter
    from akasha_stream.storage.local_adapter import LocalStorageAdapter
    from akasha_stream.storage.redis_cache import RedisCacheAdapter
    from akasha_stream.storage.registration import register_akasha_adapters, register_redis_adapter
    from akasha_stream.storage.retry import RetryPolicy
    from akasha_stream.storage.s3_adapter import S3StorageAdapter
    from akasha_stream.storage.settings import StorageSettings
    from akasha_stream.storage.tiers import StorageTiers, close_adapters, open_tier
    from akasha_stream.storage.vector_embeddings import VectorEmbeddingStorage

_HOMES = {
    "AzureStorageAdapter": "azure_adapter",
    "CircuitBreaker": "breaker",
    "Data": "adapter",
    "GCSStorageAdapter": "gcs_adapter",
    "LifecycleRule": "adapter",
    "LocalStorageAdapter": "local_adapter",
    "ObjectInfo": "adapter",
    "RedisCacheAdapter": "redis_cache",
    "RestoreState": "adapter",
    "RetryPolicy": "retry",
    "S3StorageAdapter": "s3_adapter",
    "StorageAdapter": "adapter",
    "StorageSettings": "settings",
    "StorageTiers": "tiers",
    "VectorEmbeddingStorage": "vector_embeddings",
    "close_adapters": "tiers",
    "open_tier": "tiers",
    "register_akasha_adapters": "registration",
    "register_redis_adapter": "registration",
}

__all__ = [
    "AzureStorageAdapter",
    "CircuitBreaker",
    "Data",
    "GCSStorageAdapter",
    "LifecycleRule",
    "LocalStorageAdapter",
    "ObjectInfo",
    "RedisCacheAdapter",
    "RestoreState",
    "RetryPolicy",
    "S3StorageAdapter",
    "StorageAdapter",
    "StorageSettings",
    "StorageTiers",
    "VectorEmbeddingStorage",
    "close_adapters",
    "open_tier",
    "register_akasha_adapters",
    "register_redis_adapter",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
