"""What a producer refuses is what ingest would refuse, in the same words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from akasha_stream.errors import ValidationError
from akasha_stream.events.bundles import encode_bundle
from akasha_stream.events.model import Event
from akasha_stream.events.records import Record
from akasha_stream.publish.checks import checked_size
from akasha_stream.settings import Limits
from tests.publish.events import decode, make_events, vectors

LIMITS = Limits()
GOOD = make_events(1)[0]


def deep(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


BAD: dict[str, tuple[str, Callable[[], Event]]] = {
    "no id": ("event_id_size", lambda: replace(GOOD, event_id="")),
    "long id": ("event_id_size", lambda: replace(GOOD, event_id="é" * 129)),
    "long system": ("source_system_size", lambda: replace(GOOD, source_system="s" * 129)),
    "no model": ("model_size", lambda: replace(GOOD, model="")),
    "long content": ("content_size", lambda: replace(GOOD, content="x" * 65_537)),
    "line end in an id": ("control_characters", lambda: replace(GOOD, event_id="a\nb")),
    "C1 in a system": ("control_characters", lambda: replace(GOOD, source_system="a\x85")),
    "NUL in content": ("control_characters", lambda: replace(GOOD, content="a\0b")),
    "short vector": ("vector_length", lambda: replace(GOOD, embedding=GOOD.embedding[:383])),
    "NaN": ("vector_not_finite", lambda: replace(GOOD, embedding=np.full(384, np.nan, np.float32))),
    "infinity": ("vector_not_finite", lambda: replace(GOOD, embedding=np.full(384, np.inf, np.float32))),
    "zeros": ("vector_zero", lambda: replace(GOOD, embedding=np.zeros(384, np.float32))),
    "huge": ("vector_magnitude", lambda: replace(GOOD, embedding=np.full(384, 1e30, np.float32))),
    "tiny": ("vector_magnitude", lambda: replace(GOOD, embedding=np.full(384, 1e-30, np.float32))),
    "before 1970": ("created_at_range", lambda: replace(GOOD, created_at=datetime(1969, 1, 1, tzinfo=UTC))),
    "far ahead": ("created_at_range", lambda: replace(GOOD, created_at=datetime.now(UTC) + timedelta(days=3))),
    "long metadata": ("metadata_size", lambda: replace(GOOD, metadata={"a": "x" * 17_000})),
    "deep metadata": ("metadata_too_deep", lambda: replace(GOOD, metadata=deep(9))),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_event_is_refused_as_ingest_would(name: str) -> None:
    reason, make = BAD[name]
    event = make()
    with pytest.raises(ValidationError) as caught:
        checked_size(event, LIMITS)
    assert caught.value.reason == reason
    value = encode_bundle([event])
    now = int(datetime.now(UTC).timestamp() * 1000)
    headers = [("content-type", b"application/vnd.apache.arrow.stream")]
    record = Record(0, 0, now, event.source_system.encode(), value, headers)
    (dead,) = decode([record]).dead
    # The wire's vector column is wide enough for one length only, so there another length is a wrong schema.
    assert dead.reason == reason or (name == "short vector" and dead.reason in ("arrow_schema", "vector_length"))


def test_text_that_utf8_can_not_say_is_refused() -> None:
    with pytest.raises(ValidationError) as caught:
        checked_size(replace(GOOD, content="\ud800"), LIMITS)
    assert caught.value.reason == "utf8_invalid"


@pytest.mark.parametrize(
    "event",
    [
        GOOD,
        replace(GOOD, content=""),
        replace(GOOD, content="line\nend\ttab — ünï\u0085"),
        replace(GOOD, content="x" * 65_536),
        replace(GOOD, metadata=deep(8)),
        replace(GOOD, embedding=vectors(1)[0] * 1e10),
        Event.delete("system", "id"),
    ],
)
def test_a_good_event_passes_both(event: Event) -> None:
    checked_size(event, LIMITS)
    now = int(datetime.now(UTC).timestamp() * 1000)
    headers = [("content-type", b"application/vnd.apache.arrow.stream")]
    decoded = decode([Record(0, 0, now, event.source_system.encode(), encode_bundle([event]), headers)])
    assert not decoded.dead
    assert len(decoded.batch) == 1
