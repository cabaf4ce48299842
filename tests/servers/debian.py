"""Programs out of Debian's packages, unpacked into the cache folder; nothing is changed on the machine."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from akasha_stream.embedded.kafka_jars import jars_folder
from tests.servers.availability import unavailable


def _nothing(_: Path) -> None: ...


def unpacked(
    name: str, package: str, *, what: str, libraries: bool = False, finish: Callable[[Path], None] = _nothing
) -> Path:
    """The folder `name` with the files of a package, fetched once. `what`: it is, for who can't have it.

    `libraries`: and of the packages that it needs and that are not installed. `finish`: called with the folder before
    anybody sees it.
    """
    folder = jars_folder().parent / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _fetch(folder, package, what, libraries, finish)
    return folder


def _fetch(folder: Path, package: str, what: str, libraries: bool, finish: Callable[[Path], None]) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        unavailable(f"no {what}: it is not on the PATH, and this is no Debian to fetch its package from")
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        archives, files = Path(temporary) / "archives", Path(temporary) / "files"
        (archives / "partial").mkdir(parents=True)
        download = _with_libraries(archives, package) if libraries else ["apt-get", "download", package]
        done = _run(download, archives)
        if done.returncode:  # on a fresh machine there are no lists
            _run(["apt-get", "update"], archives)
            done = _run(download, archives)
        packages = list(archives.glob("*.deb"))
        if done.returncode or not packages:
            unavailable(f"Debian's package {package} can't be fetched: {done.stderr.strip()[-500:]}")
        for each in packages:
            _run(["dpkg-deb", "-x", str(each), str(files)], archives).check_returncode()
        finish(files)
        files.rename(folder)


def _with_libraries(archives: Path, package: str) -> list[str]:
    options = [f"Dir::Cache::archives={archives}/", "Debug::NoLocking=1", "APT::Sandbox::User=root"]
    said = [part for option in options for part in ("-o", option)]
    return ["apt-get", "install", "--download-only", "--yes", "--no-install-recommends", *said, package]


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=300, env=environment
    )
