"""Real servers that ask who one is: Kafka with SASL_SSL and ACLs, Redis with TLS, workers with HTTPS."""

from __future__ import annotations

import asyncio
import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import TopicAuthorizationFailedError

from akasha_stream.client import AkashaClient
from akasha_stream.connections.kafka import client_options
from akasha_stream.errors import (
    BrokerDenied,
    BrokerError,
    LookupUnavailable,
    ServiceUnreachable,
    SettingsError,
    ValidationError,
)
from akasha_stream.lookups.connection import connect, unavailable_as_lookup_error
from akasha_stream.publish import EventPublisher, merge_tokens
from akasha_stream.settings import BrokerSettings, RedisSettings, Settings
from akasha_stream.storage.redis_cache import RedisCacheAdapter
from akasha_stream.storage.settings import RedisCacheSettings
from akasha_stream.topics.broker import admin_client
from akasha_stream.topics.reader import committed_offsets, reading
from tests.cli.running import run
from tests.publish.events import make_events
from tests.servers.redis_tls import TlsRedis
from tests.servers.secured_kafka import TEAM_PASSWORD, WORKER_PASSWORD, Certificates, SecuredKafka
from tests.worker.process import WorkerProcess

pytestmark = [
    pytest.mark.kafka,
    # aiokafka closes the connection of one that is refused, and does not wait until it is closed.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

DOC = (Path(__file__).parents[2] / "docs" / "connections.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL)
TOOLS = {"kafka-acls.sh": "org.apache.kafka.tools.AclCommand", "kafka-configs.sh": "kafka.admin.ConfigCommand"}
SECRETS = (WORKER_PASSWORD, TEAM_PASSWORD)


def exported(containing: str) -> dict[str, str]:
    """Variables of the docs' block that sets this one."""
    (block,) = [block for block in BLOCKS if f"export {containing}=" in block]
    return dict(part.split("=", 1) for part in shlex.split(block.replace("export ", " ")))


TENANT = exported("AKASHA_TOPICS__EMBEDDINGS")
TOPIC = TENANT["AKASHA_TOPICS__EMBEDDINGS"]


@pytest.fixture(scope="session")
def documented(secured_kafka: SecuredKafka) -> SecuredKafka:
    """With what the docs' commands allow."""

    def given(line: str) -> None:
        program, *arguments = shlex.split(line)
        assert arguments[0::2][:2] == ["--bootstrap-server", "--command-config"]
        secured_kafka.tool(TOOLS[program], ["--bootstrap-server", secured_kafka.address, *arguments[4:]])

    lines = [line for block in BLOCKS for line in block.splitlines() if line.startswith("kafka-")]
    assert len(lines) == 3
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(given, lines))
    return secured_kafka


def as_user(kafka: SecuredKafka, user: str, password: str, **others: Any) -> dict[str, Any]:
    return {
        "bootstrap_servers": kafka.sasl_ssl,
        "security_protocol": "SASL_SSL",
        "sasl_user": user,
        "sasl_password": password,
        "tls_ca": kafka.certificates.ca,
        "request_timeout_s": 10.0,
        **others,
    }


def settings_of(broker: dict[str, Any]) -> Settings:
    topics = {"embeddings": TOPIC, "dead_letters": TENANT["AKASHA_TOPICS__DEAD_LETTERS"]}
    return Settings.model_validate({"broker": broker, "topics": topics})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"sasl_password": "wrong"},
            r"refuses the user worker with SCRAM-SHA-512 \(broker.sasl_user, ",
        ),
        ({"sasl_user": "nobody"}, r"refuses the user nobody"),
        ({"sasl_mechanism": "PLAIN"}, r"does not take PLAIN \(broker.sasl_mechanism\)"),
        ({"tls_ca": None}, r"certificate that is not trusted: .* \(broker.tls_ca\)"),
        ({"security_protocol": "PLAINTEXT"}, r"broker.security_protocol PLAINTEXT is not its listener's"),
        ({"security_protocol": "SASL_PLAINTEXT"}, r"broker.security_protocol SASL_PLAINTEXT is not its listener's"),
        ({"security_protocol": "SSL"}, r"broker.security_protocol SSL is not its listener's"),
    ],
)
async def test_who_is_not_let_in_is_told_which_setting_is_wrong(
    secured_kafka: SecuredKafka, changed: dict[str, Any], said: str
) -> None:
    broker = as_user(secured_kafka, "worker", WORKER_PASSWORD, **changed)
    with pytest.raises(BrokerDenied, match=said) as denied:
        async with admin_client(BrokerSettings(**broker)):
            pass
    assert "\n" not in str(denied.value)
    assert not any(secret in str(denied.value) for secret in SECRETS)
    with pytest.raises(BrokerDenied, match=said):
        async with EventPublisher(settings_of(broker)):
            pass


async def test_every_other_client_says_it_too(secured_kafka: SecuredKafka) -> None:
    wrong = BrokerSettings(**as_user(secured_kafka, "worker", "wrong"))
    with pytest.raises(BrokerDenied):
        await committed_offsets(wrong, "group", TOPIC)
    with pytest.raises(BrokerDenied):
        async with reading(wrong, TOPIC):
            pass


async def test_client_certificates(documented: SecuredKafka) -> None:
    """The certificate's name is worker, who may do what the user worker may."""
    made = documented.certificates
    broker = BrokerSettings(
        bootstrap_servers=documented.mutual_tls,
        security_protocol="SSL",
        tls_ca=made.ca,
        tls_certificate=made.client,
        tls_key=made.client_key,
    )
    async with admin_client(broker) as admin:
        assert (await admin.describe_cluster())["cluster_id"]
    assert await committed_offsets(broker, TENANT["AKASHA_INGEST__GROUP"], "no-topic") == {}
    with pytest.raises(BrokerDenied, match=r"broker\.tls_certificate"):
        async with admin_client(broker.model_copy(update={"tls_certificate": None, "tls_key": None})):
            pass


async def test_redis_with_tls(redis_tls: TlsRedis, certificates: Certificates, tmp_path: Path) -> None:
    async def ping(**files: Path) -> None:
        client = connect(RedisSettings.model_validate({"url": redis_tls.url, **files}))
        try:
            with unavailable_as_lookup_error():
                assert await client.ping()
        finally:
            await client.aclose()

    ours = {"tls_certificate": certificates.client, "tls_key": certificates.client_key}
    await ping(tls_ca=certificates.ca, **ours)
    with pytest.raises(LookupUnavailable, match=r"not trusted: .* \(redis\.tls_ca\)"):
        await ping(tls_ca=Certificates.make(tmp_path).ca)
    # It wants our certificate. Its reason comes after the handshake, at times behind the end of the connection.
    with pytest.raises(LookupUnavailable, match=r"redis\.tls_certificate|reset"):
        await ping(tls_ca=certificates.ca)


async def test_the_cache_with_tls(redis_tls: TlsRedis, certificates: Certificates, tmp_path: Path) -> None:
    ours = {"tls_certificate": certificates.client, "tls_key": certificates.client_key}
    given = RedisCacheSettings(host="localhost", port=redis_tls.port, tls=True, tls_ca=certificates.ca, **ours)
    cache = await RedisCacheAdapter.open(given)
    try:
        await cache.set("key", {"a": 1})
        assert await cache.get("key") == {"a": 1}
    finally:
        await cache.cleanup()
    with pytest.raises(SettingsError, match=r"^redis-cache\.tls_ca: .* can't be read"):
        await RedisCacheAdapter.open(given.model_copy(update={"tls_ca": tmp_path / "none.pem"}))


async def test_all_of_it_with_two_workers(
    documented: SecuredKafka,
    redis_tls: TlsRedis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Topics, ingest, digest, search over two workers, commands: nothing of it in the clear; and who may write what."""
    made = documented.certificates
    variables = TENANT | {
        "KAFKA_BOOTSTRAP_SERVERS": documented.sasl_ssl,
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_USER": "worker",
        "KAFKA_SASL_PASSWORD": WORKER_PASSWORD,
        "KAFKA_TLS_CA": str(made.ca),
        "REDIS_URL": redis_tls.url,
        "REDIS_TLS_CA": str(made.ca),
        "REDIS_TLS_CERTIFICATE": str(made.client),
        "REDIS_TLS_KEY": str(made.client_key),
        "AKASHA_TLS_CERTIFICATE": str(made.server),
        "AKASHA_TLS_KEY": str(made.server_key),
        "AKASHA_TLS_CA": str(made.ca),
        "AKASHA_PARTITIONS": "2",
        "AKASHA_ENV": "dev",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    applied = await asyncio.to_thread(run, capsys, "topics", "apply")
    assert applied.code == 0, applied.err
    shown = await asyncio.to_thread(run, capsys, "config", "show", "--json")
    assert WORKER_PASSWORD not in shown.out
    assert shown.json["settings"]["broker"]["sasl_password"] == "**********"

    # One system for each partition, so that each worker has some.
    systems = ["team-a-1", "team-a-2", "team-a-3", "team-a-4", "team-a-5", "team-a-6"]
    events = [replace(event, source_system=system) for event, system in zip(make_events(6), systems, strict=True)]
    team = as_user(documented, "team-a", TEAM_PASSWORD)
    short = {"ingest.session_timeout_s": 6.0, "ingest.heartbeat_s": 0.5}
    workers = [
        WorkerProcess({**short, "hot.data_dir": str(tmp_path / name)}, tmp_path / f"{name}.log")
        for name in ("one", "two")
    ]
    async with workers[0] as one, workers[1] as two:
        assert one.url.startswith("https://127.0.0.1:")
        async with EventPublisher(settings_of(team)) as publisher:
            deliveries = await publisher.publish_many(events)
            assert {each.partition for each in deliveries} == {0, 1}
        foreign = await send(team, TOPIC, b"team-b-1", FOREIGN)
        token = merge_tokens(deliveries) + f",{foreign}"
        for worker in (one, two):
            async with AkashaClient(worker.url, ca=made.ca) as client:
                found = await client.search(vector=[1.0] * 384, k=50, after=token, after_timeout_s=30)
                assert found.complete, (found.incomplete, one.logged()[-3000:], two.logged()[-3000:])
                assert {hit.source_system for hit in found.hits} == set(systems)
        with pytest.raises(ServiceUnreachable, match=r"not trusted: .* \(http\.tls_ca\)"):
            async with AkashaClient(one.url) as client:
                await client.stats()
        got = await asyncio.to_thread(run, capsys, "get", events[0].source_system, events[0].event_id, "--url", two.url)
        assert got.code == 0, got.err
        status = await asyncio.to_thread(run, capsys, "status", "--json")
        assert [each["ready"] for each in status.json["workers"]] == [True, True], status.json
        letters = await asyncio.to_thread(run, capsys, "dlq", "list", "--json")
        assert [each["reason"] for each in letters.json["letters"]] == ["source_system_not_allowed"]
        logged = one.logged() + two.logged()
        assert not any(secret in logged for secret in SECRETS)
    await denied_by_acl(team)


FOREIGN = b'{"event_id": "x", "source_system": "team-b-1", "op": "delete"}'


async def send(broker: dict[str, Any], topic: str, key: bytes, value: bytes) -> str:
    """What a producer that is not ours may send; its freshness token."""
    producer = AIOKafkaProducer(**client_options(BrokerSettings(**broker)))
    await producer.start()
    try:
        sent = await producer.send_and_wait(topic, value, key=key)
    finally:
        await producer.stop()
    return f"{sent.partition}:{sent.offset}"


async def denied_by_acl(team: dict[str, Any]) -> None:
    """The producer writes to its topic and reads none; of its own publisher it is told before."""
    settings = settings_of(team)
    (event,) = make_events(1)
    limits = settings.limits.model_copy(update={"source_systems": ("team-a-*",)})
    async with EventPublisher(settings.model_copy(update={"limits": limits})) as publisher:
        with pytest.raises(ValidationError, match="does not carry"):
            await publisher.publish_many([replace(event, source_system="team-b-1")])
    digests = settings.topics.model_copy(update={"embeddings": TENANT["AKASHA_TOPICS__DIGESTS"]})
    with pytest.raises(BrokerError, match=r"does not exist at .*, or team-a has no right to it"):
        async with EventPublisher(settings.model_copy(update={"topics": digests})):
            pass
    with pytest.raises(TopicAuthorizationFailedError):
        await send(team, digests.embeddings, b"team-a-1", b"{}")
    # Reading takes Read, which it has not.
    async with reading(settings.broker, TOPIC) as reader:
        with pytest.raises(BrokerError, match=r"not authorized|TopicAuthorization"):
            await reader.one(0, 0)
