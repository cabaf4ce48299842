from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.embedded.kafka import cluster_id
from akasha_stream.embedded.kafka_config import Node, broker_properties, render

ONE = Node(id=1, port=20_001, controller_port=20_002, log_dir="log")
TWO = Node(id=2, port=20_003, controller_port=20_004, log_dir="log")
THREE = Node(id=3, port=20_005, controller_port=20_006, log_dir="log")


def test_a_single_node_asks_for_no_copies() -> None:
    properties = broker_properties(ONE, [ONE])
    assert properties["controller.quorum.voters"] == "1@127.0.0.1:20002"
    assert {value for key, value in properties.items() if "replication.factor" in key or "isr" in key} == {"1"}
    assert properties["listeners"] == "PLAINTEXT://127.0.0.1:20001,CONTROLLER://127.0.0.1:20002"


def test_three_nodes_know_each_other_and_copy() -> None:
    cluster = [ONE, TWO, THREE]
    all_properties = [broker_properties(node, cluster) for node in cluster]
    assert {each["controller.quorum.voters"] for each in all_properties} == {
        "1@127.0.0.1:20002,2@127.0.0.1:20004,3@127.0.0.1:20006"
    }
    assert [each["node.id"] for each in all_properties] == ["1", "2", "3"]
    assert all_properties[0]["offsets.topic.replication.factor"] == "3"
    assert all_properties[0]["min.insync.replicas"] == "2"


def test_a_node_must_be_of_the_cluster() -> None:
    with pytest.raises(ValueError, match="node 3"):
        broker_properties(THREE, [ONE, TWO])


def test_extra_properties_win() -> None:
    assert broker_properties(ONE, [ONE], {"log.retention.ms": "1", "node.id": "9"})["node.id"] == "9"


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_value_survives_the_file(value: str) -> None:
    (line,) = render({"key": value}).split("\n")[:-1]
    assert line.isascii()
    assert parsed(line.removeprefix("key=")) == value


def parsed(text: str) -> str:
    """What java.util.Properties makes of a value."""
    units: list[int] = []
    at = 0
    text = text.lstrip(" \t\f")
    while at < len(text):
        if text[at] != "\\":
            units.append(ord(text[at]))
            at += 1
        elif text[at + 1] == "u":
            units.append(int(text[at + 2 : at + 6], 16))
            at += 6
        else:
            units.append(ord({"n": "\n", "r": "\r", "t": "\t", "f": "\f"}.get(text[at + 1], text[at + 1])))
            at += 2
    return b"".join(unit.to_bytes(2, "big") for unit in units).decode("utf-16-be")


def test_a_cluster_id_is_one_of_kafkas() -> None:
    assert all(len(text) == 22 and text[0] != "-" for text in (cluster_id() for _ in range(500)))
