"""A headless Chromium: from the PATH, else from Debian's packages, unpacked into the cache folder (some 90 MB)."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from tests.servers.debian import unpacked

PACKAGE = "chromium-headless-shell"
NAMES = (PACKAGE, "chromium", "chromium-browser", "google-chrome")


def chromium_program() -> Path:
    """A script or program that starts it."""
    installed = next(filter(None, map(shutil.which, NAMES)), None)
    if installed is not None:
        return Path(installed)
    return unpacked("chromium", PACKAGE, what="Chromium", libraries=True, finish=_add_start) / "start"


def _add_start(folder: Path) -> None:
    start = folder / "start"
    start.write_text(_START)
    start.chmod(0o755)


_START = """#!/bin/sh
# Chromium with the libraries that this machine lacked when it was fetched.
here=$(dirname "$0")
LD_LIBRARY_PATH=$(find "$here/usr/lib" -name '*.so*' -printf '%h\\n' | sort -u | tr '\\n' ':')${LD_LIBRARY_PATH:-}
export LD_LIBRARY_PATH
[ -e /etc/fonts/fonts.conf ] || export FONTCONFIG_FILE="$here/etc/fonts/fonts.conf"
exec "$here/usr/lib/chromium/chromium-headless-shell" "$@"
"""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """One that runs until the block ends."""
    program = chromium_program()
    async with async_playwright() as playwright:
        # Its sandbox needs rights that root in a container has not; it opens pages of ours alone.
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=90_000)
        yield browser
        await browser.close()
