"""What the console is made of: its files, their headers, and nothing of elsewhere in them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from akasha_stream.api.console import add_console, console_files


@pytest.fixture
async def pages(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    add_console(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://akasha") as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/console", "/console/", "/console/index.html"])
async def test_the_page(pages: httpx.AsyncClient, path: str) -> None:
    answer = await pages.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_every_file_of_the_page_is_there(pages: httpx.AsyncClient) -> None:
    page = (await pages.get("/")).text
    named = re.findall(r'(?:href|src)="(console/[^"]+)"', page)
    assert named
    for name in named:
        answer = await pages.get(f"/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["content-type"].split(";")[0] in {"text/css", "text/javascript", "image/svg+xml"}
    for name, file in console_files().items():
        folder = name.rpartition("/")[0]
        for imported in re.findall(r'from "([^"]+)"', file.content.decode()):
            assert imported.startswith("./") or imported.startswith("../")
            url = httpx.URL(f"http://akasha/console/{folder}/").join(imported)
            assert (await pages.get(url)).status_code == 200, f"{name} imports {imported}"


async def test_it_is_asked_for_again_only_where_it_changed(pages: httpx.AsyncClient) -> None:
    first = await pages.get("/console/scripts/main.js")
    again = await pages.get("/console/scripts/main.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/console/nothing.js", "/console/../app.py", "/console/%2e%2e/errors.py", "/console//etc/passwd"]
)
async def test_nothing_else_is_served(pages: httpx.AsyncClient, path: str) -> None:
    answer = await pages.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_nothing_in_it_is_of_elsewhere_or_makes_markup_of_text() -> None:
    for name, file in console_files().items():
        text = file.content.decode()
        hosts = set(re.findall(r"https?://[^\s\"'`)]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not hosts, f"{name}: {hosts}"
        assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\()", text), name
        assert not re.search(r"\sstyle=|\son\w+=", text if name.endswith(".html") else ""), name
