"""Free ports on the loopback address."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from pathlib import Path

LOOPBACK = "127.0.0.1"


def ephemeral_floor() -> int:
    """The first port that the kernel hands to outgoing connections (32768 on Linux by default)."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768


def free_ports(count: int) -> list[int]:
    """`count` different TCP ports that nobody listens on at this moment.

    They lie below the kernel's ephemeral range. A port out of that range (what `bind(0)` gives) is lost in two ways
    while its server is down: any outgoing connection may take it as its source port, and a client that keeps
    reconnecting on loopback sooner or later gets it as its own source port and is connected to itself; either way
    the restarted server can't bind. Someone may still take one before the server binds it: callers retry.
    """
    low, high = 15_000, min(ephemeral_floor(), 32_768) - 1
    with ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            # Where an administrator moved the ephemeral range down to 15000, the kernel's choice has to do.
            port = random.randint(low, high) if high - low > 1_000 else 0  # noqa: S311 - no secret, only a port
            probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            ports.append(int(probe.getsockname()[1]))
        return ports


def can_bind(port: int) -> bool:
    """Nobody listens on the port; connections of a server that was just killed, in TIME_WAIT, don't count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)  # two binds with SO_REUSEADDR are allowed, two listens are not
        except OSError:
            return False
        return True
