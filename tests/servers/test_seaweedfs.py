"""The embedded S3 server."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import psutil
from pydantic import SecretStr

from akasha_stream.storage import S3StorageAdapter
from tests.servers.seaweedfs import start_seaweedfs

if TYPE_CHECKING:
    from akasha_stream.embedded import SeaweedServer


def adapter(server: SeaweedServer) -> S3StorageAdapter:
    return S3StorageAdapter(
        "hot-bucket",
        endpoint_url=server.endpoint_url,
        access_key_id=SecretStr(server.access_key_id),
        secret_access_key=SecretStr(server.secret_access_key),
    )


async def test_it_keeps_its_objects_over_a_kill_and_listens_on_loopback_only() -> None:
    with start_seaweedfs() as server:
        store = adapter(server)
        await store.ensure_bucket("hot-bucket")
        for number in range(20):
            await store.upload("hot-bucket", f"object-{number}", b"bytes %d" % number)
        await store.cleanup()
        listening = [each for each in psutil.Process(server.pid).net_connections() if each.status == psutil.CONN_LISTEN]
        assert {each.laddr.ip for each in listening if each.family == socket.AF_INET} == {"127.0.0.1"}
        assert not [each for each in listening if each.family == socket.AF_INET6]
        server.kill()
        assert not server.answers()
        server.restart()
        store = adapter(server)
        for number in range(20):
            assert await store.download("hot-bucket", f"object-{number}") == b"bytes %d" % number
        await store.cleanup()
    assert not server.data_dir.exists()
