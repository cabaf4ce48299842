"""Records that become dead letters."""

from __future__ import annotations

from aiokafka import AIOKafkaProducer

from tests.worker.stage import Stage


async def publish_bytes(stage: Stage, value: bytes, key: bytes) -> None:
    """To the embeddings topic, as a foreign producer would."""
    producer = AIOKafkaProducer(bootstrap_servers=stage.broker.bootstrap_servers)
    await producer.start()
    try:
        await producer.send_and_wait(stage.topic, value=value, key=key)
    finally:
        await producer.stop()
