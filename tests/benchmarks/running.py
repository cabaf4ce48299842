"""Runs a benchmark as its README line does, and reads its last line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]


def benchmark(name: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments, "--json"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert result["benchmark"] == name
    assert {"cpu", "cores", "memory_mb", "kernel", "python"} <= result["machine"].keys()
    assert {"duckdb", "pyarrow", "faust-streaming", "aiokafka", "numpy", "simsimd"} <= result["versions"].keys()
    assert result["arguments"]["json"] is True
    return result
