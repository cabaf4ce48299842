"""docs/console.md has the views of the page, and its endpoints; the pictures are there and small."""

from __future__ import annotations

import re
from pathlib import Path

from akasha_stream.api.console import console_files

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "console.md").read_text()


def test_every_view_is_described() -> None:
    views = [file.content.decode() for name, file in console_files().items() if name.startswith("scripts/views/")]
    titles = {re.findall(r'^export const title = "(.+)";$', each, re.MULTILINE)[0] for each in views}
    assert set(re.findall(r"^\| ([A-Z][\w ]+) \| .+ \| .+ \|$", TEXT, re.MULTILINE)) == titles


def test_the_pictures_are_there_and_small() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT)
    assert len(pictures) == 2
    for picture in pictures:
        content = (DOCS / picture).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) < 300_000
