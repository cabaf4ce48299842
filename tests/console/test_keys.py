"""The console where a key is asked for: in the tab alone, and a view that the key may not see says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from akasha_stream.api.access import Guard
from akasha_stream.api.app import create_app
from akasha_stream.api.console import add_console
from akasha_stream.api.map import add_map
from akasha_stream.api.overview import add_overview
from akasha_stream.api.server import serve
from akasha_stream.auth.authentication import Authentication
from akasha_stream.auth.caller import Scope
from akasha_stream.auth.keys import Keys, KeysFile, NewKey
from akasha_stream.cluster.cluster import Cluster
from akasha_stream.operations.overview import Overview
from akasha_stream.search.engine import SearchEngine
from tests.api.conftest import SETTINGS
from tests.search.memory_store import MemoryStore, Row
from tests.servers.chromium import chromium

pytestmark = [pytest.mark.slow]


@pytest.fixture
async def keys(tmp_path: Path) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """(URL, name → key) of a node with two systems."""
    file = KeysFile(tmp_path / "keys.yml")
    made = {name: NewKey.make(name, [Scope.READ], systems) for name, systems in (("whole", ["*"]), ("part", ["mine"]))}
    for each in made.values():
        file.add(each)
    store = MemoryStore(1)
    store.add(
        [Row(system, str(n), [1.0 + n] * 7 + [-1.0], f"of {system}") for system in ("mine", "theirs") for n in (1, 2)]
    )
    engine = SearchEngine(store, SETTINGS)
    guard = Guard(Authentication(Keys(file.path)))
    app = create_app(Cluster(engine, SETTINGS), guard=guard)

    async def overview() -> Overview:
        return Overview(1)

    add_overview(app, lambda: None, overview)  # type: ignore[arg-type,return-value]
    add_map(app, engine.map)
    add_console(app)
    async with serve(app, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}", {name: each.secret for name, each in made.items()}
    engine.close()


async def give(page: Page, key: str) -> None:
    await page.get_by_label("API key or bearer token").fill(key)
    await page.get_by_role("button", name="Use it").click()


async def test_a_key_is_asked_for_and_kept_in_the_tab(keys: tuple[str, dict[str, str]]) -> None:
    url, known = keys
    async with chromium() as browser:
        context = await browser.new_context()
        page = await context.new_page()
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url))
        await page.goto(f"{url}/#/map")
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("This node asks for an API key.")
        await give(page, "ak_wrong")
        await expect(dialog).to_contain_text("This key is not valid here.")
        await give(page, known["whole"])
        await expect(dialog).to_be_hidden()
        await expect(page.locator(".points button")).to_have_count(4)
        # Of this tab alone: not in the address, in no cookie, and another tab asks anew.
        stored = await page.evaluate("[localStorage.length, document.cookie, location.href, sessionStorage.length]")
        assert stored[:2] == [0, ""]
        assert known["whole"] not in stored[2] + "".join(sent)
        assert stored[3] >= 1
        await page.reload()
        await expect(page.locator(".points button")).to_have_count(4)
        other = await context.new_page()
        await other.goto(f"{url}/#/map")
        await expect(other.get_by_role("dialog")).to_contain_text("asks for an API key")


async def test_a_view_says_what_the_key_may_not_see(keys: tuple[str, dict[str, str]]) -> None:
    url, known = keys
    async with chromium() as browser:
        page = await (await browser.new_context()).new_page()
        await page.goto(f"{url}/#/overview")
        await give(page, known["part"])
        for view in ("overview", "storage"):
            await page.locator(f'[data-view="{view}"]').click()
            await expect(page.get_by_role("alert")).to_contain_text("all source systems together")
        await page.locator('[data-view="map"]').click()
        await expect(page.locator(".points button")).to_have_count(2)
        assert "theirs" not in await page.content()
        # With another key the view is there.
        await page.locator('[data-view="overview"]').click()
        await page.get_by_role("button", name="API key").click()
        await give(page, known["whole"])
        await expect(page.get_by_role("alert")).to_have_count(0)
