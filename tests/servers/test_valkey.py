"""Valkey as it is started here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest
from redis import AuthenticationError, Redis
from redis import ConnectionError as RedisConnectionError
from redis import TimeoutError as RedisTimeoutError
from redis.backoff import NoBackoff
from redis.retry import Retry

from akasha_stream.embedded import ValkeyServer
from akasha_stream.errors import ServerStartError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.valkey


def test_set_and_get(valkey: ValkeyServer) -> None:
    with Redis.from_url(valkey.url) as client:
        client.set("test:key", b"\x00value")
        assert client.get("test:key") == b"\x00value"


def test_it_comes_back_empty_on_the_same_port(valkey_killable: ValkeyServer) -> None:
    url = valkey_killable.url
    with Redis.from_url(url, retry=None) as client:
        client.set("key", "value")
        valkey_killable.kill()
        with pytest.raises(RedisConnectionError, match="refused"):
            client.get("key")
        valkey_killable.restart()
        assert valkey_killable.url == url
        assert client.get("key") is None


def test_a_persistent_one_keeps_its_data_over_kill_9(tmp_path: Path) -> None:
    with ValkeyServer.start(tmp_path, persist=True) as server, Redis.from_url(server.url) as client:
        client.set("key", "value")
        server.kill()
        server.restart()
        assert client.get("key") == b"value"
    with ValkeyServer.start(tmp_path, persist=True) as server, Redis.from_url(server.url) as client:
        assert client.get("key") == b"value"


def test_a_password_is_needed_and_stands_in_no_process_list() -> None:
    secret = 'pa"ss\\ #word'
    with ValkeyServer.start(password=secret) as server:
        with Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as client, pytest.raises(AuthenticationError):
            client.get("key")
        with Redis(port=server.port, password=secret) as client:
            assert client.ping()
        assert secret not in " ".join(psutil.Process(server.pid).cmdline())


def test_a_url_with_special_characters_in_the_password_works() -> None:
    with ValkeyServer.start(password="p@ss/wörd:?#%") as server, Redis.from_url(server.url) as client:
        assert client.ping()


def test_a_setting_can_not_smuggle_in_another() -> None:
    with pytest.raises(ServerStartError, match="line break"):
        ValkeyServer.start(password="x\nappendonly yes")


def test_a_paused_one_hangs_and_goes_on(valkey_killable: ValkeyServer) -> None:
    with Redis.from_url(valkey_killable.url, socket_timeout=0.2, retry=None) as client:
        client.set("key", "value")
        valkey_killable.pause()
        with pytest.raises(RedisTimeoutError):
            client.get("key")
        valkey_killable.resume()
        assert client.get("key") == b"value"
        valkey_killable.pause()  # and the fixture's stop() ends it all the same
