"""The fields of `--json`, as docs/json.md has them."""

from __future__ import annotations

import re
from pathlib import Path

_PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text()


def fields() -> dict[str, set[str]]:
    """Command → its fields."""
    found: dict[str, set[str]] = {}
    for section in _PAGE.split("\n### ")[1:]:
        title, _, text = section.partition("\n")
        for command in title.split(", "):
            found[command] = set(re.findall(r"`([a-z_0-9]+)`", text))
    return found
