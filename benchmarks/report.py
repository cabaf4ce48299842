"""What every benchmark prints: its figures with the machine, the versions and the arguments they belong to."""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

PACKAGES = (
    "akasha-stream", "duckdb", "duckdb-extension-vss", "pyarrow", "numpy", "simsimd", "faust-streaming", "aiokafka",
    "redis", "fastapi", "uvicorn", "orjson", "pydantic",
)  # fmt: skip


def machine() -> dict[str, object]:
    return {
        "cpu": _cpu_model(),
        "cores": os.process_cpu_count() or 1,
        "memory_mb": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average_1_min": round(os.getloadavg()[0], 2),
    }


def versions(**servers: str) -> dict[str, str]:
    found = dict(servers)
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def quantiles(milliseconds: Sequence[float] | NDArray[np.float64], prefix: str = "") -> dict[str, float]:
    """p50_ms, p99_ms and max_ms of some durations."""
    values = np.asarray(milliseconds, np.float64)
    return {
        f"{prefix}p50_ms": round(float(np.percentile(values, 50)), 3),
        f"{prefix}p99_ms": round(float(np.percentile(values, 99)), 3),
        f"{prefix}max_ms": round(float(values.max()), 3),
    }


def show(
    name: str, arguments: Namespace, figures: Mapping[str, object], servers: Mapping[str, str], *, as_json: bool
) -> None:
    """With --json one object on the last line; else a table of the figures."""
    if as_json:
        given = {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()}
        result = {
            "benchmark": name,
            **figures,
            "arguments": given,
            "machine": machine(),
            "versions": versions(**servers),
        }
        print(json.dumps(result), flush=True)
        return
    width = max(map(len, figures))
    print(f"{name}: {', '.join(f'{key} {value}' for key, value in vars(arguments).items() if value is not None)}")
    for key, value in figures.items():
        text = f"{value:,.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        print(f"  {key:<{width}}  {text}")


def end_on_sigterm() -> None:
    """So that the servers are stopped then too."""

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(143)

    signal.signal(signal.SIGTERM, stop)
