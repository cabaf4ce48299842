"""Three tiers on each kind of store, each test in buckets of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr

from akasha_stream.embedded import SeaweedServer
from akasha_stream.storage import StorageSettings
from akasha_stream.storage.settings import TIERS, AnyBackend, AzureBackend, GCSBackend, LocalBackend, S3Backend
from tests.behaviours.storage_fixtures import unique_bucket
from tests.servers.azurite import ACCOUNT, KEY, AzuriteServer
from tests.servers.gcs import FakeGcsServer
from tests.servers.moto import MotoServer


def _settings(backends: Mapping[str, AnyBackend]) -> StorageSettings:
    return StorageSettings(backends=dict(backends), tiers={tier: tier for tier in TIERS})


def on_folders(root: Path) -> StorageSettings:
    return _settings({t: LocalBackend(bucket_name=t, root=root, tier=t, prefix="akasha/") for t in TIERS})


def _s3(
    endpoint_url: str, key: str, secret: str, cold: Literal["GLACIER_IR", "GLACIER"], *, shared: bool = False
) -> StorageSettings:
    bucket = unique_bucket()
    return _settings(
        {
            tier: S3Backend(
                bucket_name=bucket if shared else f"{bucket}-{tier}",
                tier=tier,
                prefix="akasha/",
                storage_class=cold if tier == "cold" else None,
                endpoint_url=endpoint_url,
                access_key_id=SecretStr(key),
                secret_access_key=SecretStr(secret),
                create_bucket=True,
            )
            for tier in TIERS
        }
    )


def on_seaweedfs(server: SeaweedServer, **more: Any) -> StorageSettings:
    """It keeps any class, and archives nothing: GLACIER is read there as it is."""
    return _s3(server.endpoint_url, server.access_key_id, server.secret_access_key, "GLACIER_IR", **more)


def on_moto(server: MotoServer, **more: Any) -> StorageSettings:
    """With archive classes."""
    return _s3(server.endpoint_url, "any", "any", "GLACIER", **more)


def on_azurite(server: AzuriteServer, *, shared: bool = False) -> StorageSettings:
    text = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={server.account_url};"
    bucket = unique_bucket()
    return _settings(
        {
            tier: AzureBackend(
                bucket_name=bucket if shared else f"{bucket}-{tier}",
                tier=tier,
                connection_string=SecretStr(text),
                create_bucket=True,
            )
            for tier in TIERS
        }
    )


def on_gcs(server: FakeGcsServer, *, shared: bool = False) -> StorageSettings:
    bucket = unique_bucket()
    return _settings(
        {
            tier: GCSBackend(
                bucket_name=bucket if shared else f"{bucket}-{tier}",
                tier=tier,
                endpoint_url=server.endpoint_url,
                project="tests",
                create_bucket=True,
            )
            for tier in TIERS
        }
    )
