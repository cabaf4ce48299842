"""Asking a broker which log a topic is.

aiokafka 0.14 knows Metadata up to version 5, without topic ids; version 10 (Kafka ≥ 2.8, flexible encoding) is
defined here, after clients/src/main/resources/common/message/Metadata{Request,Response}.json of Apache Kafka.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any
from uuid import UUID

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from akasha_stream.connections.kafka import client_options
from akasha_stream.errors import BrokerError
from akasha_stream.incarnation import Incarnation
from akasha_stream.settings import BrokerSettings
from akasha_stream.topics.broker import Unsupported, broker_errors, connecting

_log = structlog.stdlib.get_logger(__name__)
_NO_ID = UUID(int=0)


class Uuid(AbstractType):  # type: ignore[misc]  # aiokafka is untyped
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


class MetadataResponseV10(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString()),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition_index", Int32),
                        ("leader_id", Int32),
                        ("leader_epoch", Int32),
                        ("replica_nodes", CompactArray(Int32)),
                        ("isr_nodes", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("topic_authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class MetadataRequestV10(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = MetadataResponseV10
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", Uuid), ("name", CompactString()), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicIdRequest(Request[MetadataRequestV10]):  # type: ignore[misc]
    """Metadata of one topic; never creates it. `prepare` refuses brokers whose ApiVersions lack version 10."""

    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[MetadataRequestV10]) -> MetadataRequestV10:
        return request_struct_class([(_NO_ID, self._topic, {})], False, False, False, {})


async def log_incarnation(settings: BrokerSettings, topic: str) -> Incarnation:
    """Which log `topic` is now; unknown, with the reason logged, where the broker gives no ids or has no such topic.

    Raises BrokerError when no broker answers.
    """
    client = AIOKafkaClient(**client_options(settings))
    try:
        async with connecting(settings):
            await client.bootstrap()
        return await incarnation_through(client, topic)
    finally:
        await client.close()


async def incarnation_through(client: AIOKafkaClient, topic: str) -> Incarnation:
    """The same, asked with a bootstrapped client: a consumer's or an admin client's `_client`."""
    node = client.get_random_node()
    if node is None:
        raise BrokerError("no broker is known")
    try:
        with broker_errors(f"asking for the id of {topic}"):
            response = await client.send(node, TopicIdRequest(topic))
    except Unsupported:
        return _unknown(topic, "the broker has no Metadata version 10")
    return _read(response, topic)


def _read(response: Any, topic: str) -> Incarnation:
    for error_code, name, topic_id, *_ in response.topics:
        if name != topic:
            continue
        if error_code:
            return _unknown(topic, for_code(error_code).__name__)
        if topic_id == _NO_ID:
            return _unknown(topic, "the broker gives no topic ids")
        if not response.cluster_id:
            return _unknown(topic, "the broker gives no cluster id")
        return Incarnation(response.cluster_id, str(topic_id))
    return _unknown(topic, "the broker does not have it")


def _unknown(topic: str, reason: str) -> Incarnation:
    _log.info("log_incarnation_unknown", topic=topic, reason=reason)
    return Incarnation()
