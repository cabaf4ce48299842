"""Any endpoint that speaks OpenAI's POST /v1/embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import stamina
from numpy.typing import NDArray

from akasha_stream.errors import EmbedderFailed
from akasha_stream.search.embedders.protocol import normalised
from akasha_stream.settings import EmbedderSettings

_BATCH = 64
_ATTEMPTS = 4


class _Busy(Exception):
    """The endpoint may answer a later try: 429 or 5xx."""


class OpenAIEmbedder:
    """`settings.url` is the endpoint's base ("http://host/v1") or its full path ("…/embeddings")."""

    def __init__(self, settings: EmbedderSettings, dimensions: int) -> None:
        assert settings.url is not None
        base = settings.url.rstrip("/")
        self._url = base if base.endswith("/embeddings") else f"{base}/embeddings"
        self.dimensions = dimensions
        self.model = settings.model
        self._key = settings.api_key
        self._timeout_s = settings.timeout_s
        self._client: httpx.AsyncClient | None = None

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts), dimensions), each of length 1. Raises EmbedderFailed after 4 tries."""
        parts = [await self._batch(texts[i : i + _BATCH]) for i in range(0, len(texts), _BATCH)]
        return np.concatenate(parts) if parts else np.empty((0, self.dimensions), np.float32)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _batch(self, texts: Sequence[str]) -> NDArray[np.float32]:
        try:
            async for attempt in stamina.retry_context(
                on=(_Busy, httpx.TransportError),
                attempts=_ATTEMPTS,
                timeout=self._timeout_s,
                wait_initial=0.1,
                wait_max=2.0,
                wait_jitter=0.1,
            ):
                with attempt:
                    body = await self._post(texts)
        except _Busy as error:
            raise EmbedderFailed(f"{self._url} answered {error}, {_ATTEMPTS} times") from error
        except httpx.TransportError as error:
            raise EmbedderFailed(f"{self._url} can't be reached: {type(error).__name__}: {error}") from error
        return self._vectors(body, len(texts))

    async def _post(self, texts: Sequence[str]) -> Any:
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=self._timeout_s)
        headers = {} if self._key is None else {"authorization": f"Bearer {self._key.get_secret_value()}"}
        response = await self._client.post(
            self._url, json={"model": self.model, "input": list(texts), "encoding_format": "float"}, headers=headers
        )
        if response.status_code == 429 or response.status_code >= 500:
            raise _Busy(f"HTTP {response.status_code}")
        if response.is_error:
            raise EmbedderFailed(f"{self._url} answered HTTP {response.status_code}: {response.text[:200]}")
        try:
            return response.json()
        except ValueError as error:
            raise EmbedderFailed(f"{self._url} answered something that is not JSON") from error

    def _vectors(self, body: Any, n: int) -> NDArray[np.float32]:
        try:
            items = sorted(body["data"], key=lambda item: int(item["index"]))
            vectors = np.array([item["embedding"] for item in items], np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise EmbedderFailed(f"{self._url} answered JSON that is no list of embeddings") from error
        if vectors.ndim != 2 or len(vectors) != n:
            raise EmbedderFailed(f"{self._url} answered {len(vectors)} embeddings for {n} texts")
        if vectors.shape[1] != self.dimensions:
            raise EmbedderFailed(
                f"{self._url} answered vectors of {vectors.shape[1]} dimensions (model {self.model}), "
                f"and limits.dimensions is {self.dimensions}"
            )
        if not np.isfinite(vectors).all():
            raise EmbedderFailed(f"{self._url} answered a vector that is not finite")
        return normalised(vectors)
