"""topics/*.yml: what is shipped is right, and what is wrong is said in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
import yaml

from akasha_stream.configuration.places import shipped
from akasha_stream.dlq import letter
from akasha_stream.errors import SettingsError
from akasha_stream.events import dead_letters
from akasha_stream.events.bundles import CONTENT_TYPE, headers, wire_schema
from akasha_stream.settings import Limits, Settings, TopicNames
from akasha_stream.stream.digests import Digest, WindowCounts
from akasha_stream.topics.definition import TopicDefinition, definitions, read_definition

GOOD = "name: t\npartitions: 2\nreplication_factor: 1\n"
COUNT = "allowed: a whole number ≥ 1, ≤ 10000"


def by_role(settings: Settings | None = None, variables: dict[str, str] | None = None) -> dict[str, TopicDefinition]:
    return {str(topic.role): topic for topic in definitions(settings or Settings(), variables or {})}


def test_the_shipped_definitions() -> None:
    topics = by_role()
    assert {role: topic.name for role, topic in topics.items()} == Settings().topics.model_dump(exclude={"definitions"})
    embeddings = topics["embeddings"]
    assert embeddings.partitions == 4
    assert embeddings.config["message.timestamp.type"] == "LogAppendTime"
    assert int(embeddings.config["max.message.bytes"]) > Settings().limits.bundle_bytes
    assert topics["digests"].config["cleanup.policy"] == "compact"


def test_partitions_and_replication_come_from_the_environment() -> None:
    topics = by_role(variables={"AKASHA_PARTITIONS": "12", "AKASHA_REPLICATION": "3", "AKASHA_MIN_INSYNC": "2"})
    assert topics["embeddings"].partitions == 12
    assert {topic.replication_factor for topic in topics.values()} == {3}
    assert {topic.config["min.insync.replicas"] for topic in topics.values()} == {"2"}


def test_the_settings_name_the_topics() -> None:
    settings = Settings(topics=TopicNames(embeddings="mine"))
    assert by_role(settings)["embeddings"].name == "mine"


def test_the_schemas_are_those_of_the_code() -> None:
    embeddings = by_role()["embeddings"]
    assert set(embeddings.value) == set(CONTENT_TYPE.values())
    for content_type in CONTENT_TYPE.values():
        assert list(embeddings.value[content_type].fields_) == wire_schema(384).names
    assert {name for name, _ in headers("arrow", "s", "b")} == set(embeddings.headers)

    ours = {getattr(dead_letters, name) for name in ("REASON", "DETAIL", "TOPIC", "PARTITION", "OFFSET", "TIMESTAMP")}
    ours |= {dead_letters.EVENTS, dead_letters.INDEX, dead_letters.LEFT_OUT, letter.MARK, letter.MARK_TO}
    assert set(by_role()["dead_letters"].headers) == ours

    digests = by_role()["digests"]
    digest = Digest("s", 0, 1, 0, WindowCounts(), 0, np.ones(8, np.float32), 1.0, 0, 1, 0, 1)
    assert set(digests.value["application/json"].fields_) == set(orjson.loads(digest.value()))
    assert set(digests.headers) == {name for name, _ in digest.headers()}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("name: t\npartitions: 0\nreplication_factor: 1", "t.yml:2: partitions: found 0; " + COUNT),
        ("name: t\npartitions: x\nreplication_factor: 1", "t.yml:2: partitions: found 'x'; " + COUNT),
        ("name: t\nreplication_factor: 1", "t.yml: partitions: is missing; allowed: a whole number ≥ 1, ≤ 10000"),
        (GOOD.replace("name: t", "name: a b"), "t.yml:1: name: found 'a b'; allowed: "
         "text matching ^[A-Za-z0-9._-]{1,249}$"),
        (GOOD + "partitons: 3", "t.yml:4: partitons: no such key; did you mean partitions?"),
        (GOOD + "grow: maybe", "t.yml:4: grow: found 'maybe'; allowed: one of allow, refuse"),
        (GOOD + "config:\n  retention.mss: 5", "t.yml:5: config.retention.mss: is no topic config of Kafka; "
         "did you mean retention.ms?"),
        (GOOD + "config:\n  retention.ms: [1]", "t.yml:5: config.retention.ms: found a list; allowed: text"),
        (GOOD + "config: 3", "t.yml:4: config: found 3; allowed: a mapping of names to values"),
        (GOOD + "config: {min.insync.replicas: 2}", "t.yml:4: config.min.insync.replicas: found 2; allowed: 1 to "
         "replication_factor (1), else no write succeeds"),
        (GOOD + "role: embeddings", "t.yml: config.max.message.bytes: found 1048588; allowed: a whole number ≥ 8454144 "
         "(limits.bundle_bytes + 65536)"),
        (GOOD + "value:\n  application/json:\n    description: d\n    fields:\n      a: {type: x, description: y}",
         "t.yml:8: value.application/json.fields.a.required: is missing; allowed: true or false"),
        (GOOD + "value:\n  application/json:\n    description: d\n    field: {}",
         "t.yml:7: value.application/json.field: no such key; did you mean value.application/json.fields?"),
    ],
)  # fmt: skip
def test_one_line(tmp_path: Path, text: str, wanted: str) -> None:
    file = tmp_path / "t.yml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        read_definition(file, Settings(), {})
    assert str(caught.value).replace(f"{tmp_path}/", "") == wanted


def test_the_message_size_follows_the_limits() -> None:
    with pytest.raises(SettingsError, match=r"embeddings.yml:\d+: config.max.message.bytes: found 9437184"):
        by_role(Settings(limits=Limits(bundle_bytes=9_437_184)))


def test_a_folder_must_have_each_role_once(tmp_path: Path) -> None:
    settings = Settings(topics=TopicNames(definitions=tmp_path))
    with pytest.raises(SettingsError, match=r"topics.definitions: there is no \*.yml in"):
        definitions(settings)
    for name in ("embeddings", "dead-letters"):
        (tmp_path / f"{name}.yml").write_text((shipped("topics") / f"{name}.yml").read_text(encoding="utf-8"), "utf-8")
    with pytest.raises(SettingsError, match="no file has role: digests"):
        definitions(settings, {})
    (tmp_path / "more.yml").write_text((tmp_path / "embeddings.yml").read_text(encoding="utf-8"), "utf-8")
    with pytest.raises(SettingsError, match=r"more.yml: role: found 'embeddings', which embeddings.yml has too"):
        definitions(settings, {})


def test_topics_of_ones_own_may_stand_beside(tmp_path: Path) -> None:
    for file in shipped("topics").glob("*.yml"):
        (tmp_path / file.name).write_text(file.read_text(encoding="utf-8"), "utf-8")
    (tmp_path / "own.yml").write_text(yaml.safe_dump({"name": "own", "partitions": 1, "replication_factor": 1}))
    names = {topic.name for topic in definitions(Settings(topics=TopicNames(definitions=tmp_path)), {})}
    assert "own" in names
    (tmp_path / "own2.yml").write_text(yaml.safe_dump({"name": "own", "partitions": 1, "replication_factor": 1}))
    with pytest.raises(SettingsError, match=r"own2.yml: name: found 'own', which own.yml has too"):
        definitions(Settings(topics=TopicNames(definitions=tmp_path)), {})
