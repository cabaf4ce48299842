"""Admin requests on aiokafka's client, their error codes raised, and `Unsupported` where a broker lacks one.

aiokafka 0.14 has AlterConfigs only, which resets every config it isn't given; IncrementalAlterConfigs
(api key 44, Kafka ≥ 2.3) is defined here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    InvalidRequestError,
    KafkaConnectionError,
    KafkaError,
    TopicAlreadyExistsError,
    UnsupportedVersionError,
    for_code,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int8, Int16, Int32, Schema, String

from akasha_stream.connections.kafka import client_options, why_denied
from akasha_stream.errors import BrokerError
from akasha_stream.settings import BrokerSettings
from akasha_stream.topics.difference import BrokerTopic, Wanted

_TOPIC = 2  # ConfigResource type
_SET = 0  # AlterConfigOp
_SET_ON_TOPIC = 1  # ConfigSource DYNAMIC_TOPIC_CONFIG


class Unsupported(BrokerError):
    """The broker doesn't have this request; the text says which."""

    retriable = False


class IncrementalAlterConfigsResponse(Response):  # type: ignore[misc]  # aiokafka is untyped
    API_KEY = 44
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "responses",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
            ),
        ),
    )


class IncrementalAlterConfigsRequestV0(RequestStruct):  # type: ignore[misc]  # aiokafka is untyped
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = IncrementalAlterConfigsResponse
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                ("configs", Array(("name", String("utf-8")), ("operation", Int8), ("value", String("utf-8")))),
            ),
        ),
        ("validate_only", Boolean),
    )


class IncrementalAlterConfigsRequest(Request[IncrementalAlterConfigsRequestV0]):  # type: ignore[misc]  # aiokafka is untyped
    API_KEY = 44

    def __init__(self, topic: str, values: Mapping[str, str]) -> None:
        self._resources = [(_TOPIC, topic, [(key, _SET, value) for key, value in values.items()])]

    def build(self, request_struct_class: type[IncrementalAlterConfigsRequestV0]) -> IncrementalAlterConfigsRequestV0:
        return request_struct_class(self._resources, False)


@asynccontextmanager
async def admin_client(settings: BrokerSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client. Raises BrokerError when no broker answers or lets us in."""
    admin = AIOKafkaAdminClient(**client_options(settings))
    try:
        async with connecting(settings):
            await admin.start()
        yield admin
    finally:
        await admin.close()


@asynccontextmanager
async def connecting(settings: BrokerSettings) -> AsyncIterator[None]:
    """Around a client's start(): BrokerDenied where Kafka does not let us in, else as broker_errors."""
    try:
        with broker_errors(f"broker {settings.bootstrap_servers}"):
            yield
    except BrokerError as error:
        if isinstance(error.__cause__, KafkaConnectionError) and (denied := await why_denied(settings)) is not None:
            raise denied from error
        raise


@contextmanager
def broker_errors(what: str) -> Iterator[None]:
    """aiokafka's errors, the socket's and timeouts as BrokerError; a request that the broker lacks as Unsupported."""
    try:
        yield
    except (IncompatibleBrokerVersion, NotImplementedError) as error:
        raise Unsupported(f"{what}: {error}") from error
    except TimeoutError as error:
        raise BrokerError(f"{what}: did not answer in time") from error
    except KafkaConnectionError as error:
        raise BrokerError(f"{what}: can't be reached") from error
    except KafkaError as error:
        raise BrokerError(f"{what}: {str(error) or type(error).__name__}") from error
    except OSError as error:
        raise BrokerError(f"{what}: {error.strerror or error}") from error


async def describe_topics(admin: AIOKafkaAdminClient) -> dict[str, BrokerTopic]:
    """Every topic of the broker, without configs.

    All of them are asked for: asking for one by name would create it where auto-creation is on.
    """
    with broker_errors("listing topics"):
        found = await admin.describe_topics()
    return {
        topic["topic"]: BrokerTopic(
            topic["topic"],
            len(topic["partitions"]),
            max((len(partition["replicas"]) for partition in topic["partitions"]), default=0),
            None,
        )
        for topic in found
        if not topic["error_code"]
    }


async def leaderless(admin: AIOKafkaAdminClient, partitions: Mapping[str, int]) -> list[str]:
    """Of `partitions` (topic → how many), the `topic/partition` that can't be written to yet."""
    with broker_errors("listing topics"):
        found = await admin.describe_topics()
    led = {
        (topic["topic"], partition["partition"])
        for topic in found
        for partition in topic["partitions"]
        if partition["leader"] >= 0
    }
    return [f"{name}/{each}" for name, count in partitions.items() for each in range(count) if (name, each) not in led]


async def topic_configs(
    admin: AIOKafkaAdminClient, names: Sequence[str], *, own: bool = False
) -> dict[str, dict[str, str]]:
    """The configs in force of each topic; `own`: only those that were set on it. Raises Unsupported, BrokerError."""
    if not names:
        return {}
    with broker_errors("describing topic configs"):
        responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    configs: dict[str, dict[str, str]] = {}
    for response in responses:
        for error_code, message, _type, name, entries, *_ in response.resources:
            _raise(error_code, message, f"describing the configs of {name}")
            # An entry is (name, value, read_only, …); a sensitive one has no value.
            wanted = [entry for entry in entries if entry[1] is not None and (_is_own(entry) or not own)]
            configs[name] = {entry[0]: entry[1] for entry in wanted}
    return configs


def _is_own(entry: Sequence[object]) -> bool:
    """Version 0 says whether it is a default, later ones where it comes from."""
    return not entry[3] if len(entry) == 5 else entry[3] == _SET_ON_TOPIC


async def create_topic(admin: AIOKafkaAdminClient, definition: Wanted) -> bool:
    """Create it; False where another process was faster. Raises BrokerError."""
    what = f"creating {definition.name}"
    topic = NewTopic(
        definition.name, definition.partitions, definition.replication_factor, topic_configs=dict(definition.config)
    )
    with broker_errors(what):
        response = await admin.create_topics([topic])
    for _name, error_code, *message in response.topic_errors:
        if error_code == TopicAlreadyExistsError.errno:
            return False
        _raise(error_code, message[0] if message else None, what)
    return True


async def add_partitions(admin: AIOKafkaAdminClient, topic: str, total: int) -> None:
    with broker_errors(f"adding partitions to {topic}"):
        await admin.create_partitions({topic: NewPartitions(total)})


async def set_configs(admin: AIOKafkaAdminClient, topic: str, values: Mapping[str, str]) -> None:
    """Set these configs of a topic and leave its others alone. Raises Unsupported, BrokerError."""
    what = f"setting configs of {topic}"
    with broker_errors(what):
        response = await admin._send_to_controller(IncrementalAlterConfigsRequest(topic, values))
    for error_code, message, *_ in response.responses:
        _raise(error_code, message, what)


def _raise(error_code: int, message: str | None, what: str) -> None:
    if not error_code:
        return
    kind = for_code(error_code)
    text = f"{what}: {message or getattr(kind, 'description', '') or kind.__name__}"
    if kind in (UnsupportedVersionError, InvalidRequestError):
        raise Unsupported(text)
    error = BrokerError(text)
    error.retriable = bool(getattr(kind, "retriable", False))
    raise error
