"""A backup against what there is now, without servers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.backup.archive import FORMAT, pack, unpack
from akasha_stream.backup.compare import Comparison, compare
from akasha_stream.backup.model import Content, LogState, ObjectState, Role, TopicState
from akasha_stream.backup.spans import minus, size, union
from akasha_stream.errors import BackupDamaged, UsageError
from akasha_stream.incarnation import Incarnation
from akasha_stream.storage.settings import TierName
from akasha_stream.tiers.keys import LogId, SegmentKey, state_path

TOPIC = "akasha"


def topic(first: int, end: int, *, log: str = "one", role: Role = "embeddings", **more: Any) -> TopicState:
    logs = (LogState(partition=0, first=first, end=end, **more),)
    name = TOPIC if role == "embeddings" else role
    return TopicState(
        role=role,
        name=name,
        cluster_id="c",
        topic_id=log,
        partitions=1,
        replication_factor=1,
        config={"retention.ms": "5"},
        in_force={"retention.ms": "5", "segment.ms": "1"},
        logs=logs,
    )


def segment(start: int, end: int, *, tier: TierName = "hot", generation: int = 0, **more: Any) -> ObjectState:
    key = SegmentKey(LogId(TOPIC, Incarnation("c", "one"), 0), start, end, generation)
    values: dict[str, Any] = {"size": 10, "etag": "e", "fingerprint": f"{start}", "rows": end - start, "epoch": 0}
    return ObjectState(tier=tier, path=key.path(), kind="segment", **{**values, **more})


def state(end: int) -> ObjectState:
    path = state_path(LogId(TOPIC, Incarnation("c", "one"), 0), end)
    return ObjectState(tier="hot", path=path, kind="state", size=1, etag="e", fingerprint=f"s{end}")


def ledger(fingerprint: str = "f") -> ObjectState:
    path = f"_forgotten/{'a' * 64}/{'b' * 64}.json"
    return ObjectState(tier="hot", path=path, kind="forgotten", size=1, etag="e", fingerprint=fingerprint)


def content(*parts: TopicState | ObjectState, kafka: bool = True, **settings: object) -> Content:
    return Content(
        environment="dev",
        settings={"hot": settings},
        storage={},
        files={"settings/akasha-stream.yml": "a: 1"},
        secrets_left_out=(),
        kafka=kafka,
        topics=tuple(each for each in parts if isinstance(each, TopicState)),
        tiers={},
        objects=tuple(each for each in parts if isinstance(each, ObjectState)),
    )


def lost(found: Comparison) -> list[tuple[int, int]]:
    return [span for each in found.of("lost") for span in each.offsets]


BEFORE = content(topic(20, 90), segment(0, 30), segment(30, 50), state(50), ledger())


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        pytest.param((topic(50, 120), segment(0, 30), segment(30, 50)), [], id="what is removed was spilled"),
        pytest.param(
            (topic(60, 120), segment(0, 30), segment(30, 50)), [(50, 60)], id="retention went past the bucket"
        ),
        pytest.param((topic(20, 70), segment(0, 30), segment(30, 50)), [(70, 90)], id="the log lost its end"),
        pytest.param((topic(0, 5, log="two"), segment(0, 50)), [(50, 90)], id="the topic was created anew"),
        pytest.param((segment(0, 90),), [], id="no topic, all of it spilled since"),
        pytest.param((topic(20, 90), segment(30, 50)), [(0, 20)], id="an object is gone, Kafka has a part"),
        pytest.param((topic(20, 90),), [(0, 20)], id="all objects are gone"),
        pytest.param((topic(50, 90), segment(0, 30), segment(30, 50, problem="torn")), [(30, 50)], id="damaged"),
        pytest.param((topic(60, 90, stored=80), segment(0, 30), segment(30, 50)), [], id="a worker's disk has it"),
        pytest.param((topic(60, 90, stored=55), segment(0, 50)), [(55, 60)], id="a worker's disk has a part"),
    ],
)
def test_what_is_lost_is_said_to_the_offset(now: tuple[TopicState | ObjectState, ...], expected: list[Any]) -> None:
    found = compare(BEFORE, content(*now, state(50), ledger()))
    assert lost(found) == expected
    assert found.ok == (not expected and bool(found.same + found.rewritten) and not found.of("topics"))


def test_without_kafka_all_that_it_alone_had_is_lost() -> None:
    found = compare(BEFORE, content(segment(0, 50), state(50), ledger(), kafka=False))
    assert lost(found) == [(50, 90)]
    assert found.of("topics") == []


def test_what_upkeep_does_is_no_fault() -> None:
    after = content(
        topic(50, 99), segment(0, 30, tier="warm", etag="other"), segment(30, 50, generation=1), state(50), ledger()
    )
    found = compare(BEFORE, after)
    assert (found.moved, found.rewritten, found.added, found.ok) == (1, 1, 1, True)
    compacted = compare(BEFORE, content(topic(90, 99), segment(0, 95), state(95), ledger()))
    assert (compacted.rewritten, compacted.ok) == (2, True)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        pytest.param((segment(0, 30), segment(30, 50, size=11), state(50), ledger()), "not the object", id="size"),
        pytest.param(
            (segment(0, 30, fingerprint="x"), segment(30, 50), state(50), ledger()), "not the object", id="rows"
        ),
        pytest.param((segment(30, 50), state(50), ledger()), "[0, 30)", id="missing"),
        pytest.param((segment(0, 50), ledger()), "windows and counters as of offset 50", id="state"),
        pytest.param((segment(0, 50), state(50)), "is forgotten", id="ledger"),
    ],
)
def test_what_is_damaged_is_named(parts: tuple[ObjectState, ...], said: str) -> None:
    found = compare(BEFORE, content(topic(0, 90), *parts))
    (finding,) = found.of("damaged")
    assert said in finding.detail
    assert not found.ok


def test_dead_letters_may_be_purged_and_not_disappear() -> None:
    before = content(topic(0, 9), topic(0, 5, role="dead_letters"))
    assert compare(before, content(topic(0, 9), topic(4, 7, role="dead_letters"))).ok
    gone = compare(before, content(topic(0, 9), topic(0, 0, log="two", role="dead_letters")))
    assert lost(gone) == [(0, 5)]


def test_topics_and_settings_that_differ() -> None:
    now = topic(0, 9).model_copy(update={"partitions": 2, "in_force": {"retention.ms": "6"}})
    found = compare(content(topic(0, 9), seal_rows=1), content(now, seal_rows=2))
    assert [each.detail for each in found.of("topics")] == [
        "partitions is 2, and was 1",
        "retention.ms is 6, and was 5",
    ]
    assert [each.subject for each in found.of("note")] == ["hot.seal_rows"]
    mine = content().model_copy(update={"settings": {"auth": {"key": "mine"}}})
    assert compare(content(), mine).of("note") == [], "the caller's own key"
    (missing,) = compare(content(topic(0, 0)), content()).of("topics")
    assert "backup restore" in missing.detail


def test_a_file_that_is_not_what_was_written_is_refused() -> None:
    data = pack(BEFORE)
    assert unpack(data, "f").content == BEFORE
    for damaged in (data[:-40], data.replace(b'"kafka":true', b'"kafka":false'), b"", b"{}\n{}", data[3:]):
        with pytest.raises(BackupDamaged, match=r"^f: "):
            unpack(damaged, "f")
    with pytest.raises(UsageError, match=f"format 9; this release reads {FORMAT}"):
        unpack(data.replace(b'"akasha_backup":1', b'"akasha_backup":9', 1), "f")
    out = BEFORE.model_copy(update={"files": {"settings/../../x.yml": "a"}})
    with pytest.raises(BackupDamaged, match="files"):
        unpack(pack(out), "f")


SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)))


@given(SPANS, SPANS)
def test_spans_are_sets_of_offsets(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    def offsets(spans: list[tuple[int, int]]) -> set[int]:
        return {offset for start, end in spans for offset in range(start, end)}

    assert offsets(union(one)) == offsets(one)
    assert offsets(minus(one, other)) == offsets(one) - offsets(other)
    assert size(minus(one, other)) == len(offsets(one) - offsets(other))
