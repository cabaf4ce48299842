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
from akasha_stream.storage.retry import RetryPolicy
from akasha_stream.storage.settings import TierName
from tests.behaviours.storage_fixtures import QUICK
from tests.servers.fault_proxy import FaultProxy
from tests.tiers.rewriting import FixedTiers

TIERS: tuple[TierName, ...] = ("hot", "warm")


class SpoiledTiers(FixedTiers):
    def __init__(self, adapters: dict[TierName, S3StorageAdapter]) -> None:
        super().__init__(adapters)
        self._s3 = adapters

    async def be_impatient(self, attempt_s: float) -> None:
        """Give a request up after so long; to be called where a schedule of faults begins."""
        await self._retry_as(replace(QUICK, attempts=3, attempt_s=attempt_s))

    async def be_patient(self) -> None:
        """A busy machine must not look like a fault where there are to be none."""
        await self._retry_as(QUICK)

    async def _retry_as(self, policy: RetryPolicy) -> None:
        for adapter in self._s3.values():
            adapter._retry = policy
            await adapter.cleanup()  # its client has the time-out too; the next request opens another


@asynccontextmanager
async def spoiled(proxy: FaultProxy, server: SeaweedServer) -> AsyncIterator[SpoiledTiers]:
    """Buckets of their own; patient at first, and no number of failures opens the breaker."""
    name = uuid.uuid4().hex[:12]
    adapters: dict[TierName, S3StorageAdapter] = {
        tier: S3StorageAdapter(
            f"{tier}-{name}",
            tier=tier,
            endpoint_url=proxy.url,
            access_key_id=SecretStr(server.access_key_id),
            secret_access_key=SecretStr(server.secret_access_key),
            retry=QUICK,
            breaker=CircuitBreaker(tier, failures=1_000),
        )
        for tier in TIERS
    }
    tiers = SpoiledTiers(adapters)
    try:
        for adapter in adapters.values():
            await adapter.ensure_bucket(adapter.bucket_name)
            # SeaweedFS takes its time for a bucket's first object: given up, it would come when nobody expects it.
            await adapter.upload(adapter.bucket_name, "first", b"1")
            await adapter.delete(adapter.bucket_name, "first")
        yield tiers
    finally:
        for adapter in adapters.values():
            await adapter.cleanup()
