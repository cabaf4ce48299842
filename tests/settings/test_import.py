"""The public names, and what importing them costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.util import find_spec

import pytest

import akasha_stream


def test_importing_the_package_is_cheap() -> None:
    """1 ms where this was written: it brings in none of our modules, and nothing of others'."""
    code = "import sys; before = set(sys.modules); import akasha_stream; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    brought = set(ast.literal_eval(done.stdout))
    assert {name for name in brought if name.partition(".")[0] not in sys.stdlib_module_names} == {"akasha_stream"}


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
