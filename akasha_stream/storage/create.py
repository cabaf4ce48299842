"""The adapter of a backend. A provider's library is imported when its first adapter is opened, not before."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, cast

from akasha_stream.storage.settings import AnyBackend

if TYPE_CHECKING:
    from akasha_stream.storage.adapter import StorageAdapter

_CLASSES = {
    "s3": ("akasha_stream.storage.s3_adapter", "S3StorageAdapter"),
    "gcs": ("akasha_stream.storage.gcs_adapter", "GCSStorageAdapter"),
    "azure": ("akasha_stream.storage.azure_adapter", "AzureStorageAdapter"),
    "local": ("akasha_stream.storage.local_adapter", "LocalStorageAdapter"),
}

_LIBRARIES = {"s3": "aioboto3", "gcs": "gcloud.aio.storage", "azure": "azure.storage.blob.aio"}
# `prefix` belongs to the paths, which whoever calls the adapter makes; create_bucket is for open_adapter().
_NOT_THE_ADAPTERS = ("provider", "prefix", "create_bucket")


def create_adapter(backend: AnyBackend) -> StorageAdapter:
    """Opens nothing yet. Raises SettingsError for settings that the adapter refuses."""
    module, name = _CLASSES[backend.provider]
    arguments = {key: value for key, value in backend if key not in _NOT_THE_ADAPTERS}
    return cast("StorageAdapter", getattr(import_module(module), name)(**arguments))


async def open_adapter(backend: AnyBackend) -> StorageAdapter:
    """One that is ready, its bucket made where the settings want that.

    Raises SettingsError, and StorageError when the bucket can't be made.
    """
    await asyncio.to_thread(_import_library, backend.provider)
    adapter = create_adapter(backend)
    try:
        if backend.create_bucket:
            await adapter.ensure_bucket(backend.bucket_name)
        await adapter.init()
    except BaseException:
        await adapter.cleanup()
        raise
    return adapter


def _import_library(provider: str) -> None:
    """In a thread, since the loop stood still for .8 s of it. Where it is missing, the adapter says so."""
    if library := _LIBRARIES.get(provider):
        with suppress(ImportError):
            import_module(library)
