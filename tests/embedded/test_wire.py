from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from akasha_stream.embedded.wire import kafka_brokers, redis_answers

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A port where every request gets these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


BROKER = b"\0\0\0\1" + b"\0\x09127.0.0.1" + b"\0\0\x23\x84" + b"\xff\xff"


@pytest.mark.parametrize(
    ("body", "brokers"),
    [
        (b"\0\0\0\1" + b"\0\0\0\1" + BROKER + b"\0\0\0\1" + b"\0\0\0\0", 1),
        (b"\0\0\0\1" + b"\0\0\0\2" + BROKER + BROKER + b"\0\0\0\1", 2),
        (b"\0\0\0\1" + b"\0\0\0\1" + BROKER + b"\xff\xff\xff\xff", 0),  # no controller yet
        (b"\0\0\0\1" + b"\0\0\0\x09" + BROKER, 0),  # cut short
        (b"HTTP/1.1 400 Bad Request", 0),
        (b"", 0),
    ],
)
def test_a_metadata_answer_is_read(body: bytes, brokers: int) -> None:
    with answering(len(body).to_bytes(4, "big") + body) as port:
        assert kafka_brokers(port) == brokers


@pytest.mark.parametrize("answer", [b"\x7f\xff\xff\xff", b"HTTP/1.1 400 Bad Request\r\n", b"\0\0", b""])
def test_another_servers_answer_is_no_kafka(answer: bytes) -> None:
    with answering(answer) as port:
        assert kafka_brokers(port) == 0


@pytest.mark.parametrize(
    ("answer", "ready"),
    [(b"+PONG\r\n", True), (b"-LOADING Valkey is loading the dataset in memory\r\n", False), (b"+P", False)],
)
def test_a_ping_answer_is_read(answer: bytes, ready: bool) -> None:
    with answering(answer) as port:
        assert redis_answers(port) is ready
