"""The console: a page at / whose files come with the package. It asks the same API that everybody does."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from akasha_stream.api.access import open_to_all

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

HEADERS = {
    # Nothing from elsewhere, nothing inline; and no text becomes markup, whatever a script of ours does with it:
    # with Trusted Types the browser refuses innerHTML.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    # Asked for each time, and answered with 304 where it is the same: an upgraded worker has an upgraded page.
    "cache-control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str


def console_files() -> dict[str, _File]:
    """Path below the folder → file."""
    return dict(_files(resources.files("akasha_stream") / "console", ""))


def _files(folder: Traversable, path: str) -> list[tuple[str, _File]]:
    found: list[tuple[str, _File]] = []
    for entry in folder.iterdir():
        name = f"{path}{entry.name}"
        media_type = _TYPES.get(name.rpartition(".")[2])
        if entry.is_dir():
            found += _files(entry, f"{name}/")
        elif media_type is not None:
            content = entry.read_bytes()
            found.append((name, _File(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:24]}"')))
    return found


def add_console(app: FastAPI) -> None:
    files = console_files()

    def answer(request: Request, name: str) -> Response:
        file = files.get(name)
        if file is None:
            raise HTTPException(404, "the console has no such file")
        headers = HEADERS | {"etag": file.etag}
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers | {"content-type": file.media_type})

    @app.get("/", include_in_schema=False)
    @app.get("/console", include_in_schema=False)
    @open_to_all
    async def page(request: Request) -> Response:
        return answer(request, "index.html")

    @app.get("/console/{name:path}", include_in_schema=False)
    @open_to_all
    async def part(request: Request, name: str) -> Response:
        return answer(request, name or "index.html")
