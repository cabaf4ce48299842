"""The Java that runs Apache Kafka."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from akasha_stream.errors import ServerStartError

OLDEST_JAVA = 17  # Kafka 4 brokers are compiled for it
_WAY_OUT = f"install a JRE of version {OLDEST_JAVA} or newer (Debian: openjdk-17-jre-headless), or set JAVA_HOME"


def find_java() -> Path:
    """A `java` of version 17 or newer: JAVA_HOME's, the PATH's, then those under /usr/lib/jvm, the newest first.

    Raises:
        ServerStartError: none is there, or all are too old; says what was found.
    """
    found: list[str] = []
    for candidate in _candidates():
        version = java_version(candidate)
        if version is not None and version >= OLDEST_JAVA:
            return candidate
        found.append(f"{candidate} ({'does not run' if version is None else f'version {version}'})")
    where = f"found only {', '.join(found)}" if found else "none was found"
    raise ServerStartError(f"Apache Kafka needs Java {OLDEST_JAVA} or newer, and {where}: {_WAY_OUT}")


def _candidates() -> list[Path]:
    home = os.environ.get("JAVA_HOME")
    on_path = shutil.which("java")
    installed = sorted(Path("/usr/lib/jvm").glob("*/bin/java"), key=_number_in_folder, reverse=True)
    candidates = [Path(home) / "bin" / "java"] if home else []
    candidates += [Path(on_path)] if on_path else []
    return [path.absolute() for path in dict.fromkeys(candidates + installed) if path.is_file()]


def _number_in_folder(java: Path) -> int:
    numbers = re.findall(r"\d+", java.parent.parent.name)
    return int(numbers[0]) if numbers else 0


def java_version(java: Path) -> int | None:
    """Its major version; None when it does not run or does not say."""
    try:
        # -version prints on stderr: `openjdk version "17.0.15"`, before Java 9 `java version "1.8.0_292"`
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=True).stderr
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(match[1]) if match else None
