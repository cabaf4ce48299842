"""Kafka: reachable, fit for us, and its topics as they are defined."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from akasha_stream.doctor.finding import Findings
from akasha_stream.embedded.tansu import CLUSTER_ID
from akasha_stream.errors import BrokerDenied, BrokerError
from akasha_stream.settings import Settings
from akasha_stream.topics.admin import plan
from akasha_stream.topics.broker import Unsupported, admin_client, broker_errors, topic_configs
from akasha_stream.topics.definition import definitions
from akasha_stream.topics.incarnation import incarnation_through

UNREAD_MARGIN = 2.0
"""Retention is risky below this many times the spill interval."""
_NEEDED = {
    19: "CreateTopics",
    22: "InitProducerId",
    24: "AddPartitionsToTxn",
    32: "DescribeConfigs",
    44: "IncrementalAlterConfigs",
}


async def check_broker(found: Findings, settings: Settings) -> None:
    servers = settings.broker.bootstrap_servers
    try:
        async with admin_client(settings.broker) as admin:
            started = time.perf_counter()
            with broker_errors("asking for the cluster"):
                cluster = await admin.describe_cluster()
            took_ms = (time.perf_counter() - started) * 1e3
            count = len(cluster["brokers"])
            found.ok("reachable", f"{servers}: {count} broker{'' if count == 1 else 's'}, {took_ms:.0f} ms")
            await _versions(found, settings, admin, cluster)
            await _topics(found, settings, admin)
            await _replicas(found, settings, admin)
            await _retention(found, settings, admin)
    except BrokerDenied as error:
        found.fail("reachable", str(error), "docs/connections.md: what each listener of Kafka wants")
    except BrokerError as error:
        found.fail(
            "reachable",
            str(error),
            "start Kafka, or set broker.bootstrap_servers (KAFKA_BOOTSTRAP_SERVERS) to where it listens "
            "(where `akasha-stream up` started it, start that again); "
            "if it runs, its advertised.listeners must be an address that this machine reaches",
        )


async def _versions(
    found: Findings, settings: Settings, admin: AIOKafkaAdminClient, cluster: Mapping[str, Any]
) -> None:
    if cluster.get("cluster_id") == CLUSTER_ID:
        found.warn(
            "versions",
            "this is the embedded broker: in memory, without idempotence and transactions",
            "use it to try things out; for data that matters run Apache Kafka 2.8 or newer",
        )
        return
    versions: dict[int, tuple[int, int]] = next(
        (conn._versions for conn in admin._client._conns.values() if conn._versions), {}
    )
    lacking = [name for key, name in _NEEDED.items() if key not in versions]
    if lacking:
        found.fail("versions", f"the broker lacks {', '.join(lacking)}", "run Apache Kafka 2.8 or newer")
        return
    if not (await incarnation_through(admin._client, settings.topics.embeddings)).known:
        if versions.get(3, (0, 0))[1] >= 10:  # it has topic ids, so the topic is what is missing: _topics says so
            found.ok("versions", "topic ids, idempotence, transactions")
            return
        found.warn(
            "versions",
            "the broker gives no topic ids: a recreated topic is noticed by its first record only",
            "run Apache Kafka 2.8 or newer",
        )
        return
    found.ok("versions", "topic ids, idempotence, transactions")


async def _topics(found: Findings, settings: Settings, admin: AIOKafkaAdminClient) -> None:
    drift = await plan(definitions(settings), admin)
    for change in drift.changes:
        if change.kind == "create":
            found.fail("topics", str(change), "akasha-stream topics apply")
        elif change.refused:
            found.warn("topics", str(change), change.refused)
        else:
            found.warn("topics", str(change), "akasha-stream topics apply, or change the definition")
    if not drift.changes:
        found.ok("topics", "as defined")
    for note in drift.notes:
        found.warn("topics", note, "look at the topics with the broker's own tools")


async def _replicas(found: Findings, settings: Settings, admin: AIOKafkaAdminClient) -> None:
    ours = set(_names(settings))
    with broker_errors("listing topics"):
        described = [topic for topic in await admin.describe_topics() if topic["topic"] in ours]
    leaderless, behind = [], []
    for topic in described:
        for partition in topic["partitions"]:
            name = f"{topic['topic']}/{partition['partition']}"
            if partition["leader"] < 0:
                leaderless.append(name)
            elif len(partition["isr"]) < len(partition["replicas"]):
                behind.append(name)
    if leaderless:
        found.fail("replicas", f"no leader: {', '.join(leaderless)}", "bring back the brokers that have them")
    if behind:
        found.warn(
            "replicas", f"replicas out of sync: {', '.join(behind)}", "look at the brokers: one is down, or too slow"
        )
    if described and not leaderless and not behind:
        found.ok("replicas", "every partition has a leader, and all its replicas are in sync")


async def _retention(found: Findings, settings: Settings, admin: AIOKafkaAdminClient) -> None:
    """Of the embeddings: a segment must be finished, and with tiers spilled, before its records go."""
    name = settings.topics.embeddings
    try:
        config = (await topic_configs(admin, [name])).get(name, {})
    except BrokerError as error:
        if isinstance(error, Unsupported) or "nknown" in str(error):
            return  # it tells no configs, or has no such topic: both are said above
        raise
    if "retention.ms" not in config:
        return
    retention_s = int(config["retention.ms"]) / 1000
    spill_s = settings.hot.seal_age_s
    shown = "unlimited" if retention_s < 0 else f"{retention_s / 3600:,.1f} h"
    interval = (
        f"a segment is finished, and spilled where tiers are enabled, after {spill_s / 3600:,.1f} h (hot.seal_age_s)"
    )
    if 0 <= retention_s <= spill_s:
        found.fail(
            "retention",
            f"retention.ms is {shown}, and {interval}: records go before they are safe",
            f"raise retention.ms of {name}, or lower hot.seal_age_s",
        )
    elif 0 <= retention_s < UNREAD_MARGIN * spill_s:
        found.warn(
            "retention",
            f"retention.ms is {shown}, and {interval}: a worker that is away for long loses records",
            f"raise retention.ms of {name} to some days",
        )
    else:
        found.ok("retention", f"{shown}; {interval}")
    if int(config.get("retention.bytes", "-1")) >= 0:
        found.warn(
            "retention",
            f"retention.bytes is {config['retention.bytes']}: a burst can push out records that were not read",
            "set it to -1 and let retention.ms decide, with disk to match",
        )
    if "compact" in config.get("cleanup.policy", ""):
        found.fail(
            "retention",
            f"cleanup.policy is {config['cleanup.policy']}: compaction keeps one bundle of each source system",
            "akasha-stream topics apply",
        )


def _names(settings: Settings) -> tuple[str, str, str]:
    return settings.topics.embeddings, settings.topics.dead_letters, settings.topics.digests
