"""A worker with events of all kinds, and a Chromium that looks at its console."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, expect

from akasha_stream.embedded import Broker, ValkeyServer
from akasha_stream.events.model import Event
from tests.console.letters import publish_bytes
from tests.publish.events import START
from tests.servers.chromium import chromium
from tests.worker.process import WorkerProcess
from tests.worker.stage import Stage, folder_tiers

WAIT_MS = 30_000
"""A busy machine may take so long for what usually takes a moment."""
HOSTILE = "hostile"
MARKUP = '<img src=x onerror="window.harmed=1"><script>window.harmed=1</script>'
NAUGHTY = [
    MARKUP,
    "\u202eright to left\u2066 override \u202e",
    "W" * 20_000,
    "javascript:window.harmed=1",
    "'\"><svg onload=window.harmed=1>",
    "Z\u0351\u036b\u0343\u036a" * 400,
]

expect.set_options(timeout=WAIT_MS)


@dataclass
class Site:
    """A worker and its events: three topics of meaning, a system each, and hostile ones."""

    stage: Stage
    worker: WorkerProcess
    browser: Browser
    requests: list[str] = field(default_factory=list)
    """URLs that pages asked for."""
    complaints: list[str] = field(default_factory=list)
    """Errors and warnings of pages."""

    @asynccontextmanager
    async def page(
        self, path: str = "", *, width: int = 1280, dark: bool = False, csp: bool = True
    ) -> AsyncIterator[Page]:
        """A page in a context of its own. Fails at the end where it asked elsewhere, or complained."""
        self.requests.clear()
        self.complaints.clear()
        context = await self.browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light", bypass_csp=not csp
        )
        context.set_default_timeout(WAIT_MS)
        page = await context.new_page()
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        await page.goto(f"{self.worker.url}/{path}")
        try:
            yield page
        finally:
            await context.close()
        assert not self.complaints
        assert [url for url in self.requests if not url.startswith(f"{self.worker.url}/")] == []

    def _heard(self, said: ConsoleMessage) -> None:
        if said.type in {"error", "warning"}:
            self.complaints.append(said.text)

    async def bad(self, value: bytes, key: bytes = b"system-0") -> None:
        """A record that becomes a dead letter."""
        await publish_bytes(self.stage, value, key)


def themed(count: int, prefix: str = "e") -> list[Event]:
    """Of systems system-0 … system-2; those of one system lie close together."""
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(3, 384))
    return [
        Event(
            event_id=f"{prefix}{n}",
            source_system=f"system-{n % 3}",
            content=f"{prefix} {n} of theme {n % 3}",
            embedding=(centres[n % 3] + 0.4 * rng.normal(size=384)).astype(np.float32),
            metadata={"n": n, "even": n % 2 == 0},
            created_at=START.replace(day=2 + n % 20),
        )
        for n in range(count)
    ]


def hostile() -> list[Event]:
    rng = np.random.default_rng(6)
    centre = rng.normal(size=384)
    return [
        Event(
            event_id=f"n{n}",
            source_system=HOSTILE,
            content=text,
            embedding=(centre + 0.2 * rng.normal(size=384)).astype(np.float32),
            metadata={"word": text[:500]},
            created_at=START,
        )
        for n, text in enumerate(NAUGHTY)
    ]


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def site(tansu: Broker, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("console")
    stage = await Stage.make(
        tansu,
        folder,
        partitions=3,
        valkey=valkey.url,
        hot__seal_rows=100,
        limits__content_bytes=100_000,
        tiers__enabled=True,
        telemetry__lag_interval_s=0.5,
        embedder__kind="onnx",
    )
    stage.variables["AKASHA_STORAGE_SETTINGS"] = folder_tiers(folder)
    async with chromium() as browser, stage.worker() as worker:
        await stage.publish([*themed(450), *hostile()])
        await stage.until_searchable(worker)
        yield Site(stage, worker, browser)


@pytest.fixture
def letter() -> bytes:
    """A record that is refused, with markup in it."""
    return json.dumps({"event_id": "bad", "source_system": "system-0", "content": MARKUP, "embedding": [1.0]}).encode()
