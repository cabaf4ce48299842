"""Test Akasha storage integration with Oneiric.

The guide's tests/test_storage_integration.py. Changed: the package's name, the import of Settings (the guide has none),
and the last line, since Oneiric has no shutdown.
"""

import pytest
from oneiric.adapters.bridge import AdapterBridge
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Resolver

from akasha_stream.storage import StorageSettings as Settings
from akasha_stream.storage import close_adapters, register_akasha_adapters


@pytest.mark.asyncio
async def test_s3_hot_adapter() -> None:
    """Test S3 hot tier adapter."""
    # Setup Oneiric resolver
    resolver = Resolver()
    register_akasha_adapters(resolver)

    # Create lifecycle manager
    lifecycle = LifecycleManager(resolver)

    # Create adapter bridge
    bridge = AdapterBridge(
        resolver=resolver,
        lifecycle=lifecycle,
        settings=Settings.load_yaml("settings/akasha-storage.yml"),
    )

    # Use hot tier adapter
    handle = await bridge.use("storage-s3-hot")
    storage = handle.instance

    # Initialize adapter
    await storage.init()

    # Test upload
    test_data = b"Hello, Akasha!"
    await storage.upload(
        bucket="akasha-hot-dev",
        path="test/hello.txt",
        data=test_data,
    )

    # Test download
    downloaded = await storage.download(
        bucket="akasha-hot-dev",
        path="test/hello.txt",
    )
    assert downloaded == test_data

    # Test exists
    assert await storage.exists(
        bucket="akasha-hot-dev",
        path="test/hello.txt",
    )

    # Test delete
    await storage.delete(
        bucket="akasha-hot-dev",
        path="test/hello.txt",
    )

    # Verify deleted
    assert not await storage.exists(
        bucket="akasha-hot-dev",
        path="test/hello.txt",
    )

    await close_adapters(lifecycle)
