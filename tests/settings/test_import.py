"""The public names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

import akasha_stream


def test_importing_the_package_is_cheap() -> None:
    """Below 30 ms; 1 ms where this was written."""
    code = (
        "import time, sys; before = set(sys.modules); start = time.perf_counter(); import akasha_stream;"
        "print(time.perf_counter() - start, sorted(n for n in set(sys.modules) - before if n.startswith('akasha')))"
    )
    runs = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True) for _ in range(3)]
    assert min(float(run.stdout.split()[0]) for run in runs) < 0.03
    assert runs[0].stdout.split(maxsplit=1)[1].strip() == "['akasha_stream']"


@pytest.mark.parametrize("name", [name for name in akasha_stream.__all__ if name != "__version__"])
def test_public_names(name: str) -> None:
    home = akasha_stream._HOMES[name]
    if find_spec(home) is None:
        pytest.skip(f"{home} is not written yet")
    assert getattr(akasha_stream, name).__name__ == name
    assert name in dir(akasha_stream)


def test_other_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nope'"):
        akasha_stream.Nope  # noqa: B018
