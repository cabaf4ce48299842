"""Commands as processes of their own, in a session that can be looked through afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """`akasha-stream …` with the shipped settings, temporary files under `cwd`, and no terminal."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AKASHA_")}
    environment |= {"HOME": str(cwd), "TMPDIR": str(cwd), "XDG_CONFIG_HOME": str(cwd), "NO_COLOR": "1", "COLUMNS": "80"}
    environment.pop("XDG_DATA_HOME", None)
    return subprocess.Popen(
        [sys.executable, "-m", "akasha_stream.cli", *arguments],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def left_of(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run two seconds later."""
    _, alive = psutil.wait_procs(processes, timeout=2)
    return alive
