"""Redis with TLS and nothing else, from Debian's package: Valkey's wheel was built without TLS."""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import pytest

from akasha_stream.embedded.server import ServerProcess
from tests.servers.debian import unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.secured_kafka import Certificates


class TlsRedis(ServerProcess):
    """Asks for a client's certificate as well."""

    name: ClassVar[str] = "redis-tls"
    certificates: Certificates
    files: Path

    @classmethod
    def start(cls, certificates: Certificates) -> Self:
        server = cls()
        server.certificates = certificates
        server.files = unpacked("redis", "redis-tools", what="Redis with TLS", libraries=True, finish=_add_link)
        return server._launch()

    @property
    def url(self) -> str:
        return f"rediss://localhost:{self.port}/0"

    def command(self) -> list[str]:
        return [str(self.files / "usr" / "bin" / "redis-server"), "-"]

    def stdin(self) -> bytes:
        made = self.certificates
        return (
            f"bind 127.0.0.1\nport 0\ntls-port {self.port}\ndir {self.data_dir}\n"
            f"tls-cert-file {made.server}\ntls-key-file {made.server_key}\ntls-ca-cert-file {made.ca}\n"
        ).encode()

    def environment(self) -> dict[str, str]:
        libraries = [str(each) for each in (self.files / "usr" / "lib").glob("*-linux-gnu*")]
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)}

    def answers(self) -> bool:
        made = self.certificates
        context = ssl.create_default_context(cafile=made.ca)
        context.load_cert_chain(made.client, made.client_key)
        try:
            with (
                socket.create_connection(("127.0.0.1", self.port), timeout=1) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as connection,
            ):
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _add_link(folder: Path) -> None:
    """One program under two names; the server's is in another package, which has nothing else."""
    (folder / "usr" / "bin" / "redis-server").symlink_to("redis-check-rdb")


@pytest.fixture(scope="session")
def redis_tls(certificates: Certificates) -> Iterator[TlsRedis]:
    with TlsRedis.start(certificates) as server:
        yield server
