"""Publish the control message that forgets a source system to every partition of the embeddings topic."""

from __future__ import annotations

from akasha_stream.events.forget import Forget, encode_forget
from akasha_stream.publish.connection import Connection
from akasha_stream.settings import Settings
from akasha_stream.topics.broker import broker_errors


async def publish_forget(settings: Settings, request: Forget) -> dict[int, int]:
    """Partition → offset of its message, once all are acknowledged.

    Raises:
        BrokerError: no broker answers, the topic does not exist, or a message was not acknowledged: some partitions
            may have theirs. The same call may be made again; a second message forgets what came in between too.
    """
    topic = settings.topics.embeddings
    key, value, headers = encode_forget(request)
    connection = Connection(settings, topic)
    await connection.start()
    try:
        producer = await connection.borrow()
        offsets = {}
        try:
            with broker_errors(f"control message to {topic}"):
                for partition in range(connection.partitions):
                    sent = await producer.send_and_wait(
                        topic, value=value, key=key, partition=partition, headers=headers
                    )
                    offsets[partition] = int(sent.offset)
        finally:
            await connection.give_back(producer)
        return offsets
    finally:
        await connection.stop()
