"""moto for tests: S3 with archive classes, restore and lifecycle rules. It keeps nothing over a restart."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

import pytest

from akasha_stream.embedded.ports import LOOPBACK
from tests.servers.availability import unavailable
from tests.servers.http_process import HttpProcess

if TYPE_CHECKING:
    from collections.abc import Iterator


class MotoServer(HttpProcess):
    name: ClassVar[str] = "moto"
    ready_path: ClassVar[str] = "/moto-api/"

    def command(self) -> list[str]:
        program = "from moto.server import main; main()"
        return [sys.executable, "-c", program, "--host", LOOPBACK, "--port", str(self.port)]


@pytest.fixture(scope="session")
def moto() -> Iterator[MotoServer]:
    """One for the whole run: use buckets of your own."""
    if find_spec("moto") is None:
        unavailable("moto is not installed: pip install 'moto[server]'")
    with MotoServer.start() as server:
        yield server
