"""The behaviours, on S3 servers: SeaweedFS for data, moto for archive classes and lifecycle rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from pydantic import SecretStr

from akasha_stream.storage.s3_adapter import S3StorageAdapter
from tests.behaviours.storage import StorageBehaviour
from tests.behaviours.storage_archive import ArchiveBehaviour
from tests.behaviours.storage_fixtures import Connect
from tests.behaviours.storage_lifecycle import LifecycleBehaviour
from tests.behaviours.storage_listing import ListingBehaviour
from tests.behaviours.storage_network import NetworkBehaviour

if TYPE_CHECKING:
    from akasha_stream.embedded import SeaweedServer
    from akasha_stream.storage.guarded import GuardedAdapter
    from tests.servers.moto import MotoServer


class TestSeaweedFS(StorageBehaviour, NetworkBehaviour):
    racers = 5  # writers of one key wait for each other in steps of 1 s
    lacks: ClassVar[dict[str, str]] = {
        "test_prefixes_and_order": "SeaweedFS sorts a/b before a-b, by folders; runs on moto",
    }

    @pytest.fixture
    def endpoint_url(self, seaweedfs: SeaweedServer) -> str:
        return seaweedfs.endpoint_url

    @pytest.fixture
    def connect(self, seaweedfs: SeaweedServer) -> Connect:
        def connect(bucket: str, **options: Any) -> GuardedAdapter[Any]:
            credentials = {
                "endpoint_url": seaweedfs.endpoint_url,
                "access_key_id": SecretStr(seaweedfs.access_key_id),
                "secret_access_key": SecretStr(seaweedfs.secret_access_key),
            }
            return S3StorageAdapter(bucket, **{**credentials, **options})

        return connect

    def wrong_credentials(self) -> dict[str, Any]:
        return {"secret_access_key": SecretStr("wrong-and-secret")}


class TestMoto(ListingBehaviour, ArchiveBehaviour, LifecycleBehaviour):
    @pytest.fixture
    def connect(self, moto: MotoServer) -> Connect:
        def connect(bucket: str, **options: Any) -> GuardedAdapter[Any]:
            credentials = {
                "endpoint_url": moto.endpoint_url,
                "access_key_id": SecretStr("any"),
                "secret_access_key": SecretStr("any"),
            }
            return S3StorageAdapter(bucket, **{**credentials, **options})

        return connect
