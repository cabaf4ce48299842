from __future__ import annotations

import pytest

from akasha_stream.topics.definition import TopicDefinition
from akasha_stream.topics.difference import BrokerTopic, Change, differences, same_value


def definition(**fields: object) -> TopicDefinition:
    return TopicDefinition.model_validate({"name": "t", "partitions": 4, "replication_factor": 1, **fields})


def topic(
    partitions: int = 4, replication_factor: int = 1, config: dict[str, str] | None = None
) -> dict[str, BrokerTopic]:
    return {"t": BrokerTopic("t", partitions, replication_factor, config or {})}


def test_a_missing_topic_is_created() -> None:
    (change,) = differences([definition()], {}).changes
    assert (change.kind, change.wanted, change.refused) == ("create", "4 partitions, 1 replica", None)


def test_an_equal_topic_changes_nothing() -> None:
    found = differences([definition(config={"retention.ms": 5})], topic(config={"retention.ms": "5", "x": "y"}))
    assert found.changes == ()
    assert found.notes == ()


def test_more_partitions_are_added() -> None:
    assert differences([definition()], topic(2)).changes == (Change("grow", "t", "partitions", "2", "4"),)


def test_partitions_are_never_taken_away() -> None:
    (change,) = differences([definition(grow="refuse")], topic(8), allow_growth=True).changes
    assert "can't take partitions away" in str(change.refused)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_keyed_topic_grows_only_when_told_to(allowed: bool) -> None:
    (change,) = differences([definition(grow="refuse")], topic(2), allow_growth=allowed).changes
    assert (change.refused is None) == allowed


def test_replicas_are_reported_and_left() -> None:
    found = differences([definition(replication_factor=3)], topic())
    assert found.refused == found.changes
    assert str(found.changes[0]) == "t: replication_factor is 1, wanted 3"


def test_configs_are_altered_one_by_one() -> None:
    wanted = definition(config={"retention.ms": 5, "cleanup.policy": "compact,delete", "segment.ms": 7})
    found = differences(
        [wanted], topic(config={"retention.ms": "6", "cleanup.policy": "delete,compact", "segment.ms": "7"})
    )
    assert found.changes == (Change("alter", "t", "retention.ms", "6", "5"),)


def test_what_a_broker_does_not_tell_is_noted() -> None:
    wanted = definition(config={"retention.ms": 5})
    untold = {"t": BrokerTopic("t", 4, 1, None)}
    for topics, said in ((untold, "does not tell"), (topic(), "does not know the config retention.ms")):
        found = differences([wanted], topics)
        assert found.changes == ()
        assert said in found.notes[0]


def test_same_value() -> None:
    assert same_value("a,b", "b, a")
    assert not same_value("a", "b")
