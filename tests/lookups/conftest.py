from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from akasha_stream.embedded import ValkeyServer
from akasha_stream.lookups.tables import Keys
from tests.lookups.model import client_of, new_keys


@pytest.fixture
async def client(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    client = client_of(valkey)
    yield client
    await client.aclose()


@pytest.fixture
def keys() -> Keys:
    return new_keys()
