"""What libraries log at ERROR in the normal course of things is left out; everything else stays."""

from __future__ import annotations

import io
import logging

import pytest

from akasha_stream.logs import REPEATED_S, Repeated, configure
from akasha_stream.settings import LoggingSettings

COORDINATOR = "Group Coordinator Request failed: [Error 15] GroupCoordinatorNotAvailableError"
TASK = "Task was destroyed but it is pending!\ntask: <Task pending coro=<{}() running at {}:1> wait_for=<Future>>"


@pytest.mark.parametrize(
    ("logger", "text", "shown"),
    [
        ("aiokafka.consumer.group_coordinator", COORDINATOR, False),
        ("aiokafka.consumer.group_coordinator", "Group Coordinator Request failed: [Error 30] Denied", True),
        ("aiokafka.producer.sender", "Unexpected error during InitProducerIdRequest: UnknownError", False),
        ("aiokafka.producer.sender", "Unexpected error while sending", True),
        ("asyncio", "Future exception was never retrieved\nfuture: <exception=ProducerFenced('There is')>", False),
        ("asyncio", "Future exception was never retrieved\nfuture: <exception=KeyError('x')>", True),
        ("asyncio", TASK.format("Service.wait", "/lib/site-packages/mode/services.py"), False),
        ("asyncio", TASK.format("Worker._register", "/lib/akasha_stream/worker.py"), True),
        ("another", COORDINATOR, True),
    ],
)
def test_only_the_expected_lines_are_left_out(logger: str, text: str, shown: bool) -> None:
    stream = io.StringIO()
    configure(LoggingSettings(level="warning", format="json"), stream)
    logging.getLogger(logger).error(text)
    assert bool(stream.getvalue()) is shown


def test_what_aiokafka_repeats_comes_once_in_a_while_with_its_count() -> None:
    now = 0.0
    repeated = Repeated(lambda: now)

    def shown(name: str, text: str) -> str | None:
        record = logging.LogRecord(name, logging.ERROR, __file__, 1, "%s", (text,), None)
        return record.getMessage() if repeated.filter(record) else None

    assert shown("aiokafka", "away") == "away"
    assert [shown("aiokafka", "away") for _ in range(3)] == [None] * 3
    assert shown("aiokafka", "another") == "another"
    assert shown("aiokafka.consumer.fetcher", "away") == "away"
    assert [shown("akasha_stream", "away") for _ in range(2)] == ["away"] * 2
    now = REPEATED_S
    assert shown("aiokafka", "away") == "away (3 times more since the last such line)"
    now *= 2
    assert shown("aiokafka", "away") == "away"


def test_debug_shows_all() -> None:
    stream = io.StringIO()
    configure(LoggingSettings(level="debug", format="json"), stream)
    logging.getLogger("aiokafka.consumer.group_coordinator").setLevel(logging.DEBUG)
    logging.getLogger("aiokafka.consumer.group_coordinator").error(COORDINATOR)
    assert COORDINATOR in stream.getvalue()
