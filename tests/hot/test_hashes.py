"""Hashes that are stored with the rows: the same for ever, whatever computes them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from akasha_stream.events.batch import EventBatch
from akasha_stream.hot.hashes import hash_batch, normalise

_NAME = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.text(
    "ab \t\n\x1c\u00a0\u0301e\u212b", max_size=8
)
_EVENT = st.tuples(_NAME, _NAME, _TEXT, _NAME, st.integers(-(2**62), 2**62), st.booleans())


@given(st.lists(_EVENT, max_size=8))
@example([])
@example([("s", "e", " two  spaces ", "m", 0, False), ("s", "e", "a\tb", "m", -1, False), ("s", "f", "", "m", 1, True)])
def test_each_hash_is_that_of_the_values_put_together_one_by_one(
    events: list[tuple[str, str, str, str, int, bool]],
) -> None:
    systems, ids, contents, models, times, deletes = (
        [list(column) for column in zip(*events, strict=True)] if events else [[] for _ in range(6)]
    )
    n = len(events)
    vectors = np.random.default_rng(n).normal(size=(n, 8)).astype(np.float32)

    def text(values: list[str]) -> pa.StringArray:
        column: pa.StringArray = pa.array(values, pa.string())
        return column

    batch = EventBatch(
        offset=np.arange(n),
        index=np.zeros(n, np.int32),
        appended_at=np.zeros(n, np.int64),
        source_system=text(systems),
        event_id=text(ids),
        content=text(contents),
        embedding=vectors,
        model=text(models),
        metadata=text(["{}"] * n),
        created_at=np.array(times, np.int64),
        delete=np.array(deletes, np.bool_),
    )
    hashed = hash_batch(batch)
    assert hashed.systems == systems
    assert hashed.keys == [f"{system}\x00{identity}" for system, identity in zip(systems, ids, strict=True)]
    for row, (system, _, content, model, at, delete) in enumerate(events):
        assert hashed.identity[row] == xxh3_64_intdigest(hashed.keys[row].encode())
        payload = f"{at}\x00{model}\x00{{}}\x00{content}".encode() + vectors[row].tobytes()
        assert hashed.payload[row] == (0 if delete else xxh3_64_intdigest(payload))
        assert hashed.content[row] == (0 if delete else xxh3_64_intdigest(f"{system}\x00{normalise(content)}".encode()))
    if n > 2:  # a batch that was decoded with others
        assert hash_batch(batch[1:]).payload.tolist() == hashed.payload[1:].tolist()
