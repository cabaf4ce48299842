"""Apache Kafka's jars: fetched once from Maven Central into the user's cache folder (92 files, 54 MB, 4–8 s)."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from akasha_stream.errors import ServerStartError

if TYPE_CHECKING:
    from collections.abc import Iterator

POM = Path(__file__).with_name("kafka-pom.xml")
_MAVEN_TIMEOUT_S = 600


def jars_folder() -> Path:
    """Where the jars belong; the name changes with the pom, so an upgrade never mixes versions."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative value is to be ignored.
    root = Path(cache) if Path(cache).is_absolute() else Path("~/.cache").expanduser()
    return root / "akasha-stream" / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"


def jars_present() -> bool:
    return jars_folder().is_dir()


def kafka_jars(java: Path) -> Path:
    """The folder with the jars, fetched if need be. Safe when several processes ask at once.

    Raises:
        ServerStartError: Maven is missing or fails; says what it said.
    """
    folder = jars_folder()
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_suffix(".lock")):
            if not folder.is_dir():
                _fetch(folder, java)
    except OSError as error:
        raise ServerStartError(
            f"the cache folder {folder.parent} can't be written ({error}): set XDG_CACHE_HOME to one that can"
        ) from error
    return folder


def find_maven() -> Path:
    home = os.environ.get("MAVEN_HOME") or os.environ.get("M2_HOME")
    at = shutil.which("mvn") or (shutil.which("mvn", path=str(Path(home) / "bin")) if home else None)
    if at is None:
        raise ServerStartError(
            "Apache Maven is needed once, to fetch Kafka's jars, and `mvn` is not on the PATH: "
            "install it (Debian: maven)"
        )
    return Path(at)


def _fetch(folder: Path, java: Path) -> None:
    maven = find_maven()
    # A name of its own for what is unfinished: a process killed half-way leaves rubbish, never half a set of jars.
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        pom = unfinished / "pom.xml"  # a copy: Maven wants to write `target/` beside its pom
        shutil.copyfile(POM, pom)
        jars = unfinished / "jars"
        command = [str(maven), "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
        try:
            done = subprocess.run(
                command,
                env={**os.environ, "JAVA_HOME": str(java.resolve().parent.parent)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_MAVEN_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ServerStartError(f"Maven did not fetch Kafka's jars within {_MAVEN_TIMEOUT_S} s") from error
        if done.returncode != 0 or not any(jars.glob("kafka_*.jar")):
            raise ServerStartError(
                f"Maven could not fetch Kafka's jars (exit code {done.returncode}):\n"
                f"{(done.stdout + done.stderr).strip()[-3000:]}"
            )
        jars.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # freed by the kernel if we die
        yield
