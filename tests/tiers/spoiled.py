"""Hot and warm on an S3 server that is reached through a proxy which may spoil requests."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from pydantic import SecretStr

from akasha_stream.embedded import SeaweedServer
from akasha_stream.storage import S3StorageAdapter
from akasha_stream.storage.breaker import CircuitBreaker
from akasha_stream.storage.settings import TierName
from tests.behaviours.storage_fixtures import QUICK
from tests.servers.fault_proxy import FaultProxy
from tests.tiers.rewriting import FixedTiers

TIERS: tuple[TierName, ...] = ("hot", "warm")


class SpoiledTiers(FixedTiers):
    def __init__(self, adapters: dict[TierName, S3StorageAdapter]) -> None:
        super().__init__(adapters)
        self._s3 = adapters

    def be_patient(self) -> None:
        """A busy machine must not look like a fault where there are to be none."""
        for adapter in self._s3.values():
            adapter._retry = QUICK


@asynccontextmanager
async def spoiled(proxy: FaultProxy, server: SeaweedServer, attempt_s: float) -> AsyncIterator[SpoiledTiers]:
    """Buckets of their own; a request is given up after `attempt_s`, and no number of failures opens the breaker."""
    name = uuid.uuid4().hex[:12]
    adapters: dict[TierName, S3StorageAdapter] = {
        tier: S3StorageAdapter(
            f"{tier}-{name}",
            tier=tier,
            endpoint_url=proxy.url,
            access_key_id=SecretStr(server.access_key_id),
            secret_access_key=SecretStr(server.secret_access_key),
            retry=replace(QUICK, attempts=3, attempt_s=attempt_s),
            breaker=CircuitBreaker(tier, failures=1_000),
        )
        for tier in TIERS
    }
    try:
        for adapter in adapters.values():
            await adapter.ensure_bucket(adapter.bucket_name)
        yield SpoiledTiers(adapters)
    finally:
        for adapter in adapters.values():
            await adapter.cleanup()
