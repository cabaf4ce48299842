"""Two questions asked over a plain socket, so that waiting for a server needs neither a client library nor a loop."""

from __future__ import annotations

import socket
import struct

_METADATA = 3
_METADATA_VERSION = 1  # the last one before topic auto-creation became a field; Kafka 4.3 still answers it
_LARGEST_ANSWER = 1 << 20


def kafka_brokers(port: int, timeout_s: float = 1.0) -> int:
    """How many brokers a Metadata request (for no topics) names; 0 when there is no answer, or no controller yet."""
    client = b"akasha-stream"
    body = struct.pack(">hhih", _METADATA, _METADATA_VERSION, 1, len(client)) + client + struct.pack(">i", 0)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            (size,) = struct.unpack(">i", _exactly(connection, 4))
            if not 8 <= size <= _LARGEST_ANSWER:
                return 0
            return _brokers(_exactly(connection, size))
    except (OSError, EOFError, struct.error, IndexError):
        return 0


def _brokers(answer: bytes) -> int:
    _correlation, count = struct.unpack_from(">ii", answer)
    at = 8
    for _ in range(count):
        at += 4  # node id
        (host,) = struct.unpack_from(">h", answer, at)
        at += 2 + host + 4  # host, port
        (rack,) = struct.unpack_from(">h", answer, at)
        at += 2 + max(rack, 0)
    (controller,) = struct.unpack_from(">i", answer, at)
    return int(count) if controller >= 0 else 0


def redis_answers(port: int, password: str | None = None, timeout_s: float = 1.0) -> bool:
    """PING gets +PONG; False also while the server is still loading its data."""
    commands = b"" if password is None else _resp(b"AUTH", password.encode())
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
            connection.sendall(commands + _resp(b"PING"))
            wanted = b"+PONG\r\n" if password is None else b"+OK\r\n+PONG\r\n"
            return _exactly(connection, len(wanted)) == wanted
    except (OSError, EOFError):
        return False


def _resp(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
