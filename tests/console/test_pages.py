"""The console in a real browser: what it shows, by mouse, by keyboard, on a phone."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from tests.console.conftest import Site, themed

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.valkey, pytest.mark.slow]

VIEWS = ["overview", "search", "storage", "map", "dead-letters"]
PHONE = 360


async def settled(page: Page, view: str) -> None:
    """Until the view shows what it has asked for."""
    match view:
        case "overview":
            await expect(page.locator(".workers .parts li").first).to_be_visible()
        case "storage":
            await expect(page.locator(".segment").first).to_be_visible()
        case "map":
            await expect(page.locator(".points button").first).to_be_visible()
        case "dead-letters":
            await expect(page.get_by_text("Reading the topic")).to_be_hidden()
        case _:
            await expect(page.get_by_role("search")).to_be_visible()


async def overflow(page: Page) -> int:
    """Pixels that the page is wider than the window."""
    found: int = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return found


@pytest.mark.parametrize("path", ["", "console"])
async def test_it_loads_without_errors_or_requests_elsewhere(site: Site, path: str) -> None:
    async with site.page(path) as page:
        await expect(page.get_by_role("status").first).to_have_text("Ready")
        for view in VIEWS:
            await page.get_by_role("navigation").locator(f'[data-view="{view}"]').click()
            await settled(page, view)
            await expect(page).to_have_title(re.compile("akasha-stream$"))


async def test_figures_change_while_events_come(site: Site) -> None:
    async with site.page() as page:
        events = page.locator('[data-tile="events"] .value')
        await expect(events).to_have_text(re.compile(r"^\d"))
        before = int((await events.inner_text()).replace(",", ""))
        await site.stage.publish(themed(30, prefix=f"live-{before}-"))
        await expect(events).to_have_text(f"{before + 30:,}")
        await expect(page.locator('[data-outcome="stored"] b')).to_be_visible()
        # The same ones again: duplicates, by event id and content.
        dropped = page.locator('[data-outcome="duplicates"] span:last-child')
        was = int(re.sub(r"\D", "", await dropped.inner_text()))
        await site.stage.publish(themed(30, prefix=f"live-{before}-"))
        await expect(dropped).to_have_text(f"of {was + 30}")


async def test_it_asks_nothing_while_it_is_hidden(site: Site) -> None:
    async with site.page() as page:
        await settled(page, "overview")
        await page.evaluate(
            "Object.defineProperty(document, 'hidden', {get: () => window.away ?? false, configurable: true});"
            "window.away = true; document.dispatchEvent(new Event('visibilitychange'));"
        )
        asked = len(site.requests)
        await page.wait_for_timeout(2_500)  # two and a half polls that must not happen
        assert len(site.requests) == asked
        async with page.expect_request(re.compile("v1/overview")):
            await page.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")


async def test_search_and_more_like_this_by_clicks(site: Site) -> None:
    async with site.page("#/search") as page:
        await page.get_by_label("Text", exact=True).last.fill("theme 1")
        await page.get_by_role("button", name="Search", exact=True).click()
        hits = page.locator(".hit")
        await expect(hits).to_have_count(10)
        await page.goto(f"{site.worker.url}/#/search?system=system-1&id=e1")
        await expect(page.get_by_text("nearest to")).to_contain_text("system-1 / e1")
        await expect(hits).to_have_count(10)
        assert all("of theme 1" in each for each in await hits.all_inner_texts())
        nearest = (await hits.first.locator(".content").inner_text()).split(" of ")[0].replace(" ", "")
        await hits.first.get_by_role("button", name="More like this").click()
        await expect(page.get_by_text("nearest to")).to_contain_text(nearest)
        await page.go_back()
        await expect(page.get_by_text("nearest to")).to_contain_text("system-1 / e1")
        await page.get_by_text(re.compile("^Plan:")).click()
        await expect(page.get_by_role("columnheader", name="Compared")).to_be_visible()


async def test_event_details(site: Site) -> None:
    async with site.page("#/search?system=system-2&id=e2") as page:
        await page.locator(".hit").first.get_by_role("button", name="Details").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("of theme 2")
        await expect(dialog).to_contain_text('"even"')
        await expect(dialog).to_contain_text("System")
        await expect(dialog).not_to_contain_text("[object")
        await page.keyboard.press("Escape")
        await expect(dialog).to_be_hidden()


async def test_filters(site: Site) -> None:
    async with site.page("#/search?system=system-0&id=e0") as page:
        await page.get_by_text("Filters").click()
        await page.get_by_label("Source systems, by commas").fill("system-2, system-1")
        await page.get_by_label("Metadata").fill("even=true, n>=100, n<190")
        await page.get_by_label("Hits at most").fill("50")
        await page.get_by_role("button", name="Search", exact=True).click()
        await expect(page.locator(".hit")).to_have_count(30)
        texts = await page.locator(".hit .about").all_inner_texts()
        numbers = [int(re.search(r"n: (\d+)", each).group(1)) for each in texts]  # type: ignore[union-attr]
        assert sorted(numbers) == [n for n in range(100, 190) if n % 2 == 0 and n % 3 != 0]
        await page.get_by_label("Created before").fill("2026-01-01T00:00:00")
        await page.get_by_role("button", name="Search", exact=True).click()
        await expect(page.get_by_text("Nothing passes these filters.")).to_be_visible()
        await page.get_by_label("Metadata").fill("nonsense")
        await page.get_by_role("button", name="Search", exact=True).click()
        await expect(page.get_by_text("is no condition")).to_be_visible()


async def test_a_failed_request_is_told(site: Site) -> None:
    async with site.page("#/search?system=nobody&id=nothing") as page:
        await expect(page.get_by_role("alert")).to_contain_text("no event 'nothing' of source system 'nobody'")
        site.complaints.clear()  # the browser's own line on the 404


async def test_segments_as_a_picture(site: Site) -> None:
    async with site.page("#/storage") as page:
        bars = page.locator(".log")
        await expect(bars).to_have_count(3)
        await expect(page.locator(".segment.of-growing").first).to_be_visible()
        assert await page.locator(".segment").count() > 3
        await page.locator(".segment").first.hover()
        await expect(page.locator(".segment-detail")).to_contain_text("offsets 0 to")


async def test_the_map_and_its_list(site: Site) -> None:
    async with site.page("#/map") as page:
        await settled(page, "map")
        await page.get_by_role("button", name=re.compile("^system-1")).click()
        texts = await page.locator(".points button").all_inner_texts()
        assert texts
        assert all("of theme 1" in each for each in texts)
        box = await page.locator("canvas").bounding_box()
        assert box is not None
        tip = page.locator(".tip")
        # Some place of the canvas has a point near it: PCA fills the longer axis.
        for at in range(40):
            await page.mouse.move(box["x"] + box["width"] * (at + 0.5) / 40, box["y"] + box["height"] * 0.5)
            for step in range(12):
                await page.mouse.move(
                    box["x"] + box["width"] * (at + 0.5) / 40, box["y"] + box["height"] * (step + 0.5) / 12
                )
                if await tip.is_visible():
                    break
            if await tip.is_visible():
                break
        await expect(tip).to_contain_text("of theme 1")
        await page.mouse.down()
        await page.mouse.up()
        await expect(page.get_by_role("dialog")).to_contain_text("of theme 1")
        await page.get_by_role("button", name="More like this").click()
        await expect(page.locator(".hit").first).to_contain_text("of theme 1")


async def test_dead_letters_are_requeued_by_click(site: Site, letter: bytes) -> None:
    async with site.page("#/dead-letters") as page:
        rows = page.locator(".letters tbody tr")
        await settled(page, "dead-letters")
        before = await rows.count()
        await site.bad(letter)
        await site.bad(b"\xff\x00 no text")
        await expect(rows).to_have_count(before + 2)  # read again by itself
        await expect(page.get_by_role("navigation").locator(".badge")).to_be_visible()
        first = rows.filter(has_text="vector_length").first
        await expect(first.locator(".preview")).to_contain_text("<img src=x")
        await first.get_by_role("button", name=re.compile("^Show")).click()
        await expect(page.get_by_role("dialog")).to_contain_text("7b 22 65 76")  # {"ev
        await expect(page.get_by_role("dialog").locator("dt", has_text="Reason")).to_be_visible()
        await expect(page.get_by_role("dialog")).not_to_contain_text("[object")
        await page.keyboard.press("Escape")
        await first.get_by_role("button", name=re.compile("^Requeue")).click()
        await expect(page.locator("#toasts")).to_contain_text("1 letter published again.")
        # It died again, and says so; the first one is marked, and is sent no second time.
        await expect(page.get_by_text("died again").first).to_be_visible()
        await expect(
            rows.filter(has_text="requeued").last.get_by_role("button", name=re.compile("^Requeue"))
        ).to_be_disabled()
        other = rows.filter(has_text="json_invalid").first
        place = await other.get_attribute("data-key")  # it dies again, and that letter comes before it
        await other.get_by_role("checkbox").check()
        await page.get_by_role("button", name="Requeue 1 selected").click()
        await expect(page.locator(f'.letters tr[data-key="{place}"]')).to_contain_text("requeued")


async def test_light_dark_and_the_switch(site: Site) -> None:
    async def ground(page: Page) -> str:
        found: str = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        return found

    async with site.page() as page:
        light = await ground(page)
        await page.get_by_role("button", name="Switch to dark colours").click()
        dark = await ground(page)
        assert dark != light
        await page.reload()
        await expect(page.get_by_role("button", name="Switch to light colours")).to_be_visible()
        assert await ground(page) == dark
    async with site.page(dark=True) as page:
        assert await ground(page) == dark


@pytest.mark.parametrize("view", VIEWS)
async def test_phone_width_needs_no_sideways_scrolling(site: Site, view: str) -> None:
    async with site.page(f"#/{view}", width=PHONE) as page:
        await settled(page, view)
        assert await overflow(page) <= 0
        if view == "search":
            await page.goto(f"{site.worker.url}/#/search?system=hostile&id=n0&k=20")
            await expect(page.locator(".hit").first).to_be_visible()
            assert await overflow(page) <= 0


async def test_all_by_keyboard(site: Site) -> None:
    async def focused(page: Page) -> str:
        found: str = await page.evaluate(
            "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"
        )
        return found

    async def tab_to(page: Page, text: str) -> None:
        for _ in range(60):
            await page.keyboard.press("Tab")
            if text in await focused(page):
                return
        pytest.fail(f"no tab leads to {text!r}")

    async with site.page() as page:
        await settled(page, "overview")
        await page.keyboard.press("Tab")
        assert await focused(page) == "Skip to the content"
        await tab_to(page, "Shards and tiers")
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        await page.keyboard.press("Enter")
        await settled(page, "storage")
        await page.keyboard.press("Tab")
        first = await page.locator(".segment-detail").inner_text()
        assert "Partition 0" in first
        await page.keyboard.press("ArrowRight")
        await expect(page.locator(".segment-detail")).not_to_have_text(first)
        await page.goto(f"{site.worker.url}/#/search?system=system-1&id=e1")
        await expect(page.locator(".hit").first).to_be_visible()
        await tab_to(page, "Details")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await tab_to(page, "More like this")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog")).to_be_hidden()
        await expect(page.locator(".hit").first).to_be_visible()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
async def test_axe_finds_nothing(site: Site, view: str, dark: bool) -> None:
    # axe-core is put into the page as text, which the page's own policy refuses, rightly.
    async with site.page(f"#/{view}", dark=dark, csp=False) as page:
        await settled(page, view)
        if view == "search":
            await page.goto(f"{site.worker.url}/#/search?system=system-1&id=e1&k=3")
            await expect(page.locator(".hit").first).to_be_visible()
            await page.get_by_text(re.compile("^Plan:")).click()
        results = await Axe().run(page)
        found = [
            f"{each['id']}: {[node['html'][:200] for node in each['nodes']]}" for each in results.response["violations"]
        ]
        assert not found
