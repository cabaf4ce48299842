"""docs/wire-format.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import orjson
import pytest

from akasha_stream.events import dead_letters
from akasha_stream.events.bundles import headers, wire_schema
from akasha_stream.events.decode import Decoder, Record
from akasha_stream.events.reasons import REASONS
from akasha_stream.partitioner import partition_of
from akasha_stream.settings import Limits
from tests.events.conversions import NOW_MS, arrow_record, events_of

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "wire-format.md").read_text(encoding="utf-8")


def test_all_reasons_are_documented() -> None:
    rows = dict(re.findall(r"^\| `([a-z0-9_]+)` \| (.+) \|$", TEXT[TEXT.index("### Reasons") :], re.MULTILINE))
    assert rows == REASONS


def test_all_limits_are_documented() -> None:
    for name in Limits.model_fields:
        assert f"`limits.{name}`" in TEXT
        default = getattr(Limits(), name)
        assert default == () or f"{default:,.0f}" in TEXT


def test_all_headers_and_columns_are_documented() -> None:
    names = [name for name, _ in headers("json", "s", "b")] + wire_schema(384).names
    names += [
        value
        for value in vars(dead_letters).values()
        if isinstance(value, str) and re.fullmatch("akasha-dlq-[a-z-]+[a-z]", value)
    ]
    assert len(names) >= 20
    for name in names:
        assert f"`{name}`" in TEXT, name


def test_the_partitions_to_check_a_client_with() -> None:
    line = next(line for line in TEXT.splitlines() if line.startswith("To check yours"))
    pairs = re.findall(r"`([^`]+)` → (\d)", line)
    assert len(pairs) == 3
    assert [partition_of(system, 8) for system, _ in pairs] == [int(partition) for _, partition in pairs]


@pytest.mark.parametrize("file", ["event.json", "event.line"])
def test_the_example_is_accepted(file: str) -> None:
    [line] = (DOCS / "examples" / file).read_bytes().splitlines()
    key, _, value = line.rpartition(b"\t")
    decoded = Decoder(Limits(), None).decode([Record(0, 0, NOW_MS, key or b"session-buddy-004", value)])
    [event] = events_of(decoded.batch)
    assert event.embedding.shape == (384,)
    assert float(np.linalg.norm(event.embedding)) == pytest.approx(1, abs=1e-5)
    assert orjson.loads(value)["content"] == event.content


def test_the_python_of_the_arrow_section_works() -> None:
    code = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert code is not None
    [line] = (DOCS / "examples" / "event.json").read_bytes().splitlines()
    event = orjson.loads(line)
    from datetime import datetime

    row = {
        **event,
        "metadata": orjson.dumps(event["metadata"]).decode(),
        "created_at": datetime.fromisoformat(event["created_at"]),
    }
    scope: dict[str, object] = {"events": [row]}
    exec(code[1], scope)
    value = scope["value"]
    assert isinstance(value, bytes)
    decoded = Decoder(Limits(), None).decode([arrow_record(value, key=b"session-buddy-004")])
    assert [found.event_id for found in events_of(decoded.batch)] == [event["event_id"]]
