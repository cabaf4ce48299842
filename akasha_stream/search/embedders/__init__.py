"""From query text to vector: local ONNX, an OpenAI-compatible endpoint, or one's own."""

from __future__ import annotations

from akasha_stream.search.embedders.create import create_embedder
from akasha_stream.search.embedders.protocol import Embedder

__all__ = ["Embedder", "create_embedder"]
