"""The command lines of README.md and docs/*.md."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = {page.name: page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
_BLOCK = re.compile(r"^```(sh|console|)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Command(NamedTuple):
    page: str
    text: str
    """On one line, without its prompt and without a remark behind it."""

    @property
    def words(self) -> list[str]:
        """Without the variables before it, and what is piped into it."""
        words = shlex.split(self.text.rpartition(" | ")[2], comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            del words[0]
        return words


def commands() -> list[Command]:
    """Each line of a sh block, each line after a prompt of the others."""
    found = []
    for page, text in PAGES.items():
        for kind, block in _BLOCK.findall(text):
            lines = block.replace("\\\n", " ").splitlines()
            if kind != "sh":
                lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
            for line in lines:
                bare = re.sub(r"\s+#.*$", "", line).strip()
                if bare and not bare.startswith("#"):
                    found.append(Command(page, re.sub(r"\s+", " ", bare)))
    return found
