"""Plan, apply and check on real brokers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from akasha_stream.embedded import Broker
from akasha_stream.errors import BrokerError, TopicDrift
from akasha_stream.settings import BrokerSettings, Settings, TopicNames
from akasha_stream.topics import admin as topics_admin
from akasha_stream.topics.admin import apply, check, ensure_topics, plan
from akasha_stream.topics.broker import (
    Unsupported,
    add_partitions,
    admin_client,
    create_topic,
    describe_topics,
    set_configs,
    topic_configs,
)
from akasha_stream.topics.definition import TopicDefinition
from tests.servers.topics import unique_name


@pytest.fixture
async def admin(broker: Broker) -> AsyncIterator[AIOKafkaAdminClient]:
    async with admin_client(BrokerSettings(bootstrap_servers=broker.bootstrap_servers)) as client:
        yield client


@pytest.fixture
async def kafka_admin(kafka: Broker) -> AsyncIterator[AIOKafkaAdminClient]:
    async with admin_client(BrokerSettings(bootstrap_servers=kafka.bootstrap_servers)) as client:
        yield client


def definition(name: str, **fields: object) -> TopicDefinition:
    return TopicDefinition.model_validate({"name": name, "partitions": 2, "replication_factor": 1, **fields})


async def test_apply_creates_what_is_missing_and_then_changes_nothing(admin: AIOKafkaAdminClient) -> None:
    wanted = [definition(unique_name("a"), config={"retention.ms": 3_600_000}), definition(unique_name("b"))]

    with pytest.raises(TopicDrift, match=f"^{wanted[0].name}: missing; {wanted[1].name}: missing$"):
        await check(wanted, admin)
    planned = await plan(wanted, admin)
    assert [change.kind for change in planned.changes] == ["create", "create"]
    assert wanted[0].name not in await describe_topics(admin), "a plan must not create anything"

    assert (await apply(wanted, admin)).changes == planned.changes
    assert (await apply(wanted, admin)).changes == ()
    assert (await check(wanted, admin)).changes == ()


async def test_the_shipped_topics(broker: Broker) -> None:
    """All three, as `up` and `demo` make them."""
    stem = unique_name("s")
    settings = Settings(
        broker=BrokerSettings(bootstrap_servers=broker.bootstrap_servers),
        topics=TopicNames(embeddings=f"{stem}.e", dead_letters=f"{stem}.d", digests=f"{stem}.g"),
    )
    assert len((await ensure_topics(settings)).changes) == 3
    assert (await ensure_topics(settings)).changes == ()


@pytest.mark.kafka
async def test_partitions_and_configs_follow_the_definition(kafka_admin: AIOKafkaAdminClient) -> None:
    name = unique_name("t")
    await apply([definition(name, config={"retention.ms": 3_600_000, "segment.ms": 60_000})], kafka_admin)
    changed = definition(name, partitions=5, config={"retention.ms": 7_200_000})

    with pytest.raises(TopicDrift) as caught:
        await check([changed], kafka_admin)
    assert str(caught.value) == (f"{name}: partitions is 2, wanted 5; {name}: retention.ms is 3600000, wanted 7200000")
    done = await apply([changed], kafka_admin)

    assert [(change.kind, change.refused) for change in done.changes] == [("grow", None), ("alter", None)]
    assert (await describe_topics(kafka_admin))[name].partitions == 5
    configs = (await topic_configs(kafka_admin, [name]))[name]
    assert configs["retention.ms"] == "7200000"
    assert configs["segment.ms"] == "60000", "what another set stays: AlterConfigs would have reset it"
    assert (await check([changed], kafka_admin)).notes == ()


@pytest.mark.kafka
@pytest.mark.parametrize("lag", [2, 10_000])
async def test_a_config_counts_when_it_is_in_force(
    kafka_admin: AIOKafkaAdminClient, monkeypatch: pytest.MonkeyPatch, lag: int
) -> None:
    """The broker that is asked has not heard of it yet, for a moment or for long."""
    name = unique_name("t")
    await apply([definition(name, config={"retention.ms": 3_600_000})], kafka_admin)
    asked = 0

    async def old_news(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
        nonlocal asked
        asked += 1
        found = await topic_configs(admin, names)
        return found if asked > lag else {each: {**values, "retention.ms": "3600000"} for each, values in found.items()}

    monkeypatch.setattr(topics_admin, "topic_configs", old_news)
    monkeypatch.setattr(topics_admin, "CONFIGS_TIMEOUT_S", 0.3)
    done = await apply([definition(name, config={"retention.ms": 7_200_000})], kafka_admin)
    assert [change.kind for change in done.changes] == ["alter"]
    assert asked > 2  # the plan's, and those of waiting
    assert done.notes == (() if lag == 2 else (f"{name}: retention.ms is set, and not in force yet",))


@pytest.mark.kafka
async def test_shrinking_is_refused_and_the_rest_is_done(kafka_admin: AIOKafkaAdminClient) -> None:
    name = unique_name("t")
    await apply([definition(name, partitions=3)], kafka_admin)

    done = await apply([definition(name, partitions=2, config={"retention.ms": 7_200_000})], kafka_admin)

    assert [change.key for change in done.refused] == ["partitions"]
    assert (await describe_topics(kafka_admin))[name].partitions == 3
    assert (await topic_configs(kafka_admin, [name]))[name]["retention.ms"] == "7200000"


@pytest.mark.kafka
async def test_a_keyed_topic_does_not_grow_by_itself(kafka_admin: AIOKafkaAdminClient) -> None:
    name = unique_name("t")
    await apply([definition(name)], kafka_admin)
    more = [definition(name, partitions=3, grow="refuse")]

    assert len((await apply(more, kafka_admin)).refused) == 1
    assert (await describe_topics(kafka_admin))[name].partitions == 2
    assert (await apply(more, kafka_admin, allow_growth=True)).refused == ()
    assert (await describe_topics(kafka_admin))[name].partitions == 3


@pytest.mark.kafka
async def test_a_broker_says_what_it_refuses(kafka_admin: AIOKafkaAdminClient) -> None:
    with pytest.raises(BrokerError, match=r"creating .*: Unable to replicate the partition 3 time"):
        await apply([definition(unique_name("t"), replication_factor=3)], kafka_admin)
    name = unique_name("t")
    await create_topic(kafka_admin, definition(name))
    with pytest.raises(BrokerError, match=r"setting configs of .*: Invalid value"):
        await set_configs(kafka_admin, name, {"retention.ms": "soon"})


async def test_a_topic_that_another_process_made_first_is_fine(admin: AIOKafkaAdminClient) -> None:
    wanted = definition(unique_name("t"))
    assert await create_topic(admin, wanted)
    assert not await create_topic(admin, wanted)


async def test_the_embedded_broker_says_what_it_can_not(tansu: Broker) -> None:
    """Tansu has no CreatePartitions: a note and a refusal, no crash."""
    name = unique_name("t")
    async with admin_client(BrokerSettings(bootstrap_servers=tansu.bootstrap_servers)) as client:
        await apply([definition(name)], client)
        done = await apply([definition(name, partitions=3)], client)
        assert [change.key for change in done.refused] == ["partitions"]
        assert "this broker can't change it" in done.notes[0]
        with pytest.raises(Unsupported):
            await add_partitions(client, name, 3)


async def test_a_broker_without_configs_is_noted(admin: AIOKafkaAdminClient, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [definition(unique_name("t"), config={"retention.ms": 3_600_000})]
    await apply(wanted, admin)

    async def unsupported(_admin: object, _names: object) -> dict[str, dict[str, str]]:
        raise Unsupported("no DescribeConfigs")

    monkeypatch.setattr(topics_admin, "topic_configs", unsupported)
    found = await check(wanted, admin)
    assert found.notes == ("this broker can't tell configs (no DescribeConfigs)",)


async def test_no_broker_is_a_broker_error() -> None:
    with pytest.raises(BrokerError, match=r"^broker 127.0.0.1:1: can't be reached$"):
        async with admin_client(BrokerSettings(bootstrap_servers="127.0.0.1:1")):
            pass
