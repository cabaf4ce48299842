"""`akasha-stream search` and `get` against a real server."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI

from akasha_stream.api.server import serve
from akasha_stream.cli.root import run
from akasha_stream.cli.search import _nothing
from akasha_stream.search.query import SearchResponse

VECTOR = [1.0] * 8


async def _cli(app: FastAPI, *arguments: str) -> int:
    async with serve(app, "127.0.0.1", 0) as port:
        return await asyncio.to_thread(run, [*arguments, "--url", f"http://127.0.0.1:{port}"])


@pytest.fixture
def vector(tmp_path: Path) -> str:
    path = tmp_path / "vector.json"
    path.write_text(json.dumps(VECTOR))
    return str(path)


async def test_search_json(app: FastAPI, vector: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = await _cli(
        app, "search", "--vector", vector, "--system", "s", "--where", "n<=2", "--where", "n!=1", "--since",
        "2026-01-01", "--k", "5", "--fields", "metadata", "--json",
    )  # fmt: skip
    assert code == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert sorted(hit["metadata"]["n"] for hit in found["hits"]) == [0, 2]
    assert "content" not in found["hits"][0]


async def test_search_table_fits_80_columns(app: FastAPI, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "v.npy"
    np.save(path, np.array(VECTOR, np.float32))
    assert await _cli(app, "search", "--vector", str(path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "10 hits in" in lines[-1]
    assert await _cli(app, "search", "--vector", str(path), "-k", "1") == 0
    assert "1 hit in" in capsys.readouterr().out


async def test_no_hits_are_said_with_what_was_searched(
    app: FastAPI, vector: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for asked, said in (
        (("--system", "nobody"), "None of these rows is live and passes the filters."),
        (("--where", "n=-1"), "passed the filters on system and time, none the other conditions."),
    ):
        assert await _cli(app, "search", "--vector", vector, *asked) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("Nothing found in ")
        assert lines[0].endswith("; everything was searched.")
        assert said in lines[1]
        assert lines[2].startswith("0 hits in")
        assert all(len(line) <= 80 for line in lines)
    assert await _cli(app, "search", "--vector", vector, "--system", "nobody", "--json") == 0
    assert json.loads(capsys.readouterr().out)["hits"] == []


def test_no_hits_where_nothing_is_stored_or_not_all_was_searched() -> None:
    nothing = SearchResponse(hits=[], complete=True, took_ms=1.0)
    assert _nothing(nothing)[0] == "Nothing found: no events are stored yet."
    lacking = nothing.model_copy(update={"complete": False})
    assert _nothing(lacking) == ["Nothing found in 0 rows of 0 partitions; not everything could be searched."]


async def test_like(app: FastAPI, capsys: pytest.CaptureFixture[str]) -> None:
    assert await _cli(app, "search", "--like", "s/1", "--json") == 0
    assert "1" not in {h["event_id"] for h in json.loads(capsys.readouterr().out)["hits"] if h["source_system"] == "s"}


@pytest.mark.parametrize(("moment", "hits"), [("0:5", 10), ("2h", 10), ("2001-01-01", 0)])
async def test_as_of(app: FastAPI, capsys: pytest.CaptureFixture[str], moment: str, hits: int) -> None:
    assert await _cli(app, "search", "--like", "s/1", "--as-of", moment, "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["hits"]) == hits


async def test_get(app: FastAPI, capsys: pytest.CaptureFixture[str]) -> None:
    assert await _cli(app, "get", "a/b", "a/b") == 0
    out = capsys.readouterr().out
    assert "a/b" in out
    assert "odd" in out
    assert re.search(r"created_at +2\S+Z *\n", out), "as search has it"
    assert await _cli(app, "get", "s", "3", "--json") == 0
    assert json.loads(capsys.readouterr().out)["content"] == "content 3"
    assert await _cli(app, "get", "s/3", "--json") == 0, "as tail and the hits write it"
    assert json.loads(capsys.readouterr().out)["content"] == "content 3"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["get", "s", "none"], 1, "no event 'none'"),
        (["search", "words"], 1, "akasha-stream[onnx]"),
        (["search"], 2, "one is needed, and only one"),
        (["search", "words", "--like", "s/1"], 2, "one is needed, and only one"),
        (["get", "3"], 2, "get: '3' must look like SYSTEM/ID"),
        (["search", "--like", "s"], 2, "must look like SYSTEM/ID"),
        (["search", "x", "--since", "yesterday"], 2, "is no time"),
        (["search", "--like", "s/1", "--as-of", "9:1"], 2, "as_of: 9:1 names partition 9"),
        (["search", "x", "--as-of", "yesterday"], 2, "is no time"),
        (["search", "x", "--fields", "colour"], 2, "fields.0"),
        (["search", "--vector", "/nonexistent.json"], 2, "can't read"),
    ],
)
async def test_errors(
    app: FastAPI, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert await _cli(app, *arguments) == code
    assert message in capsys.readouterr().err


def test_nothing_listens(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["search", "x", "--url", "http://127.0.0.1:9"]) == 1
    assert "akasha-stream up --embedded" in capsys.readouterr().err
