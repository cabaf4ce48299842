"""Azurite, Microsoft's emulator of Azure Blob Storage: a Node.js program, fetched once with npm (some 10 s, 190 MB)."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from akasha_stream.embedded.ports import LOOPBACK
from tests.servers.availability import unavailable
from tests.servers.http_process import HttpProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = "3.35.0"
ACCOUNT = "devstoreaccount1"
# Not a secret: Azurite's well-known key, the same everywhere.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class AzuriteServer(HttpProcess):
    name: ClassVar[str] = "azurite"

    @property
    def account_url(self) -> str:
        return f"{self.endpoint_url}/{ACCOUNT}"

    def command(self) -> list[str]:
        return [
            str(shutil.which("node")),
            str(azurite_folder() / "node_modules/azurite/dist/src/blob/main.js"),
            f"--blobHost={LOOPBACK}",
            f"--blobPort={self.port}",
            "--inMemoryPersistence",
            "--silent",
            "--disableTelemetry",
            "--skipApiVersionCheck",  # the client may be newer than the emulator
        ]


def azurite_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(cache) if Path(cache).is_absolute() else Path("~/.cache").expanduser()
    return root / "akasha-stream" / f"azurite-{VERSION}"


def fetch_azurite() -> None:
    """Install it unless it is there; several test processes may ask at once."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        unavailable("Azurite needs Node.js: `node` and `npm` are not on the PATH")
    folder = azurite_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            return
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            done = subprocess.run(
                [npm, "install", f"--prefix={unfinished}", "--no-audit", "--no-fund", f"azurite@{VERSION}"],
                capture_output=True,
                text=True,
                timeout=150,
                check=False,
            )
            if done.returncode != 0:
                unavailable(f"npm could not fetch azurite@{VERSION}: {done.stderr.strip()[-1000:]}")
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


@pytest.fixture(scope="session")
def azurite() -> Iterator[AzuriteServer]:
    """One for the whole run: use containers of your own."""
    fetch_azurite()
    with AzuriteServer.start() as server:
        yield server
