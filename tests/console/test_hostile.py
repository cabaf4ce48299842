"""Events are untrusted: what they hold is shown, and never executed, nor does it break the page."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.console.conftest import HOSTILE, MARKUP, NAUGHTY, WAIT_MS, Site

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.valkey, pytest.mark.slow]


async def unharmed(page: Page) -> None:
    assert await page.evaluate("window.harmed") is None
    assert await page.locator("main img, main script, dialog img, dialog script, [onerror], [onload]").count() == 0
    assert await page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


@pytest.mark.parametrize("width", [360, 1280])
async def test_hostile_content_is_text(site: Site, width: int) -> None:
    async with site.page(f"#/search?system={HOSTILE}&id=n4&systems={HOSTILE}&k=20", width=width) as page:
        hits = page.locator(".hit")
        await expect(hits).to_have_count(len(NAUGHTY) - 1)
        assert MARKUP in [await each.inner_text() for each in await page.locator(".hit .content").all()]
        await unharmed(page)
        for row in range(len(NAUGHTY) - 1):
            height = await hits.nth(row).evaluate("each => each.getBoundingClientRect().height")
            assert height < 400  # a word of 20,000 letters takes some lines, not the page
            await hits.nth(row).get_by_role("button", name="Details").click()
            await expect(page.get_by_role("dialog")).to_be_visible()
            await unharmed(page)
            await page.keyboard.press("Escape")


async def test_bidirectional_controls_end_with_their_text(site: Site) -> None:
    async with site.page(f"#/search?system={HOSTILE}&id=n0&systems={HOSTILE}&k=20") as page:
        await expect(page.locator(".hit").first).to_be_visible()
        isolated = await page.locator(".foreign").evaluate_all(
            "all => all.every(each => getComputedStyle(each).unicodeBidi === 'isolate')"
        )
        assert isolated


async def test_hostile_events_on_the_map(site: Site) -> None:
    async with site.page("#/map") as page:
        await page.get_by_role("button", name=HOSTILE).click()
        await expect(page.locator(".points button")).to_have_count(len(NAUGHTY))
        await unharmed(page)


async def test_hostile_dead_letters(site: Site, letter: bytes) -> None:
    await site.bad(MARKUP.encode() + b'{"event_id":', key=MARKUP.encode())
    async with site.page("#/dead-letters") as page:
        row = page.locator(".letters tbody tr").filter(has_text=MARKUP).first
        await expect(row).to_be_visible(timeout=WAIT_MS)
        await unharmed(page)
        await row.locator("button.link").click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        await unharmed(page)


async def test_the_policy_refuses_markup_and_inline_scripts(site: Site) -> None:
    """What would be left if a script of ours forgot itself."""
    async with site.page() as page:
        refused = await page.evaluate(
            """() => {
                const refuses = (harm) => {
                    try { harm(); return false; } catch (error) { return error instanceof TypeError; }
                };
                const button = document.createElement("button");
                return [
                    refuses(() => { document.body.innerHTML = "<b>x</b>"; }),
                    refuses(() => button.setAttribute("onclick", "window.harmed = 1")),
                ];
            }"""
        )
        assert refused == [True, True]
        assert await page.evaluate("window.harmed") is None
        site.complaints.clear()  # the browser says what it refused
