"""The behaviours, on Azurite."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from akasha_stream.errors import SettingsError
from akasha_stream.storage.azure_adapter import AzureStorageAdapter
from tests.behaviours.storage import StorageBehaviour
from tests.behaviours.storage_archive import ArchiveBehaviour
from tests.behaviours.storage_fixtures import Connect
from tests.behaviours.storage_network import NetworkBehaviour
from tests.servers.azurite import ACCOUNT, KEY

if TYPE_CHECKING:
    from akasha_stream.storage.guarded import GuardedAdapter
    from tests.servers.azurite import AzuriteServer


class TestAzurite(StorageBehaviour, NetworkBehaviour, ArchiveBehaviour):
    restore_expires = False  # a rehydrated blob stays in its new tier

    @pytest.fixture
    def endpoint_url(self, azurite: AzuriteServer) -> str:
        return azurite.endpoint_url

    def endpoint_option(self, url: str) -> dict[str, Any]:
        return {"account_url": f"{url}/{ACCOUNT}"}

    @pytest.fixture
    def connect(self, azurite: AzuriteServer) -> Connect:
        def connect(bucket: str, **options: Any) -> GuardedAdapter[Any]:
            credentials = {"account_url": azurite.account_url, "account_key": SecretStr(KEY)}
            return AzureStorageAdapter(bucket, **{**credentials, **options})

        return connect

    def wrong_credentials(self) -> dict[str, Any]:
        return {"account_key": SecretStr(base64.b64encode(b"wrong and secret").decode())}

    async def test_a_connection_string(self, azurite: AzuriteServer, bucket: str) -> None:
        text = f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={azurite.account_url}"
        store = AzureStorageAdapter(bucket, connection_string=SecretStr(text))
        assert await store.health() is True
        await store.cleanup()


def test_credentials_are_of_one_kind() -> None:
    for options in ({}, {"account_url": "https://x", "connection_string": SecretStr("x")}):
        with pytest.raises(SettingsError, match="either a connection_string or an account_url"):
            AzureStorageAdapter("bucket", **options)  # type: ignore[arg-type]


async def test_a_wrong_secret_is_not_shown() -> None:
    store = AzureStorageAdapter("bucket", connection_string=SecretStr("AccountKey=top-secret"))
    with pytest.raises(SettingsError, match="wrong form") as caught:
        await store.init()
    assert "top-secret" not in f"{caught.value} {caught.value.__cause__} {vars(store)}"
