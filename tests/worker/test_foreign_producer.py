"""docs/examples/event.line through Kafka's own console producer, as a newcomer in another language would start."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from akasha_stream.embedded import Broker, KafkaServer
from tests.worker.stage import Stage

pytestmark = pytest.mark.kafka

LINE = Path(__file__).parents[2] / "docs" / "examples" / "event.line"


@pytest.mark.parametrize(
    "with_headers", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["no headers", "headers"]
)
async def test_the_documented_example_from_the_console_producer_is_found(
    kafka: Broker, tmp_path: Path, *, with_headers: bool
) -> None:
    if not isinstance(kafka, KafkaServer):
        pytest.skip("Kafka runs in a container here: its console tools are not on this machine")
    stage = await Stage.make(kafka, tmp_path)
    line = LINE.read_text().rstrip("\n")
    event = json.loads(line.split("\t", 1)[1])
    properties = ["parse.key=true"]
    if with_headers:
        properties.append("parse.headers=true")
        line = f"content-type:application/json,ce_id:one,ce_source:console\t{line}"
    async with stage.worker() as worker:
        await asyncio.to_thread(console_producer, kafka, stage.topic, properties, f"{line}\n")
        async with asyncio.timeout(20):
            while (found := await worker.event(event["source_system"], event["event_id"])) is None:
                await asyncio.sleep(0.1)
        assert found["content"] == event["content"]
        answer = await worker.search(vector=event["embedding"], k=1)
        (hit,) = answer["hits"]
        assert (hit["source_system"], hit["event_id"]) == (event["source_system"], event["event_id"])
        assert hit["metadata"] == event.get("metadata", {})
        await worker.stop()


def console_producer(kafka: KafkaServer, topic: str, properties: list[str], text: str) -> None:
    command = [str(kafka.java), "-cp", kafka.classpath, "org.apache.kafka.tools.ConsoleProducer"]
    command += ["--bootstrap-server", kafka.bootstrap_servers, "--topic", topic]
    for each in properties:
        command += ["--reader-property", each]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ERROR" not in done.stdout + done.stderr
