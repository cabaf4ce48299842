"""Starting, killing and stopping, as it is for every server; shown on the two that start in 50 ms."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Protocol

import psutil
import pytest

from akasha_stream.embedded import ServerProcess, TansuServer, ValkeyServer
from akasha_stream.embedded import server as server_module
from akasha_stream.embedded.ports import ephemeral_floor, free_ports
from akasha_stream.errors import ServerStartError

if TYPE_CHECKING:
    from pathlib import Path

SERVERS = [TansuServer, ValkeyServer]


class Start(Protocol):
    def __call__(self, *, port: int = 0) -> ServerProcess: ...


@pytest.fixture(params=SERVERS, ids=lambda kind: kind.name)
def start(request: pytest.FixtureRequest) -> Start:
    chosen: Start = request.param.start
    return chosen


def listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_start_kill_restart_stop(start: Start) -> None:
    with start() as server:
        port, first = server.port, server.pid
        assert server.running
        assert server.answers()
        server.kill()
        assert not server.answers()
        assert not psutil.pid_exists(first)
        server.restart()
        assert server.port == port
        assert server.pid != first
        assert server.answers()
        server.restart()  # from running
        assert server.answers()
    assert not listening(port)
    assert not server.data_dir.exists()
    server.stop()
    with pytest.raises(ServerStartError, match="stopped for good"):
        server.restart()
    with pytest.raises(ServerStartError, match="not running"):
        _ = server.pid


def test_it_listens_on_loopback_only(start: Start) -> None:
    with start() as server:
        addresses = [
            each.laddr.ip for each in psutil.Process(server.pid).net_connections() if each.status == psutil.CONN_LISTEN
        ]
        assert addresses == ["127.0.0.1"]


def test_a_taken_port_is_named(start: Start) -> None:
    with start() as server, pytest.raises(ServerStartError, match=f"port {server.port} is taken"):
        start(port=server.port)


@pytest.mark.parametrize("kind", SERVERS)
def test_a_lost_race_for_the_port_is_run_again(kind: type[ServerProcess], monkeypatch: pytest.MonkeyPatch) -> None:
    start: Start = kind.start  # type: ignore[attr-defined]
    with start() as taken:
        offered = [[taken.port], free_ports(1)]
        monkeypatch.setattr(server_module, "free_ports", lambda count: offered.pop(0))
        monkeypatch.setattr(server_module, "can_bind", lambda port: True)
        monkeypatch.setattr(kind, "answers", lambda self: self.port != taken.port and listening(self.port))
        with start() as server:
            assert server.port != taken.port
            assert not offered


def test_ctrl_c_in_the_terminal_does_not_reach_it(start: Start) -> None:
    with start() as server:
        assert os.getpgid(server.pid) != os.getpgid(0)
        assert os.getsid(server.pid) != os.getsid(0)


def test_it_outlives_the_thread_that_started_it(start: Start) -> None:
    servers: list[ServerProcess] = []
    thread = threading.Thread(target=lambda: servers.append(start()))
    thread.start()
    thread.join()
    with servers[0] as server:
        time.sleep(0.1)
        assert server.answers()


@pytest.mark.parametrize(
    "kind", ["TansuServer", "ValkeyServer", pytest.param("KafkaServer", marks=[pytest.mark.kafka, pytest.mark.slow])]
)
def test_a_parent_killed_with_9_leaves_no_orphan(kind: str, request: pytest.FixtureRequest) -> None:
    if kind == "KafkaServer":
        request.getfixturevalue("kafka")  # skips where there is none, and has the jars fetched
    program = f"import time, akasha_stream.embedded as e; print(e.{kind}.start().pid, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.send_signal(signal.SIGKILL)
    child.wait(timeout=5)


def test_a_parent_that_just_ends_leaves_no_orphan() -> None:
    program = "import akasha_stream.embedded as e; print(e.ValkeyServer.start().pid, flush=True)"
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True, timeout=30)
    for _ in range(50):
        if not psutil.pid_exists(int(done.stdout)):
            return
        time.sleep(0.1)
    pytest.fail("the server outlived its parent")


class Script(ServerProcess):
    """A server that is a shell script."""

    name = "script"
    start_timeout_s = 0.5
    stop_timeout_s = 0.5

    def __init__(self, script: str, data_dir: Path | None = None) -> None:
        super().__init__(data_dir)
        self.script = script
        self.ready = False

    def command(self) -> list[str]:
        return ["/bin/sh", "-c", self.script]

    def answers(self) -> bool:
        return self.ready

    def launch(self) -> Script:
        return self._launch()


def test_one_that_ends_is_told_with_the_end_of_its_log() -> None:
    server = Script("seq 3000; echo out of cheese >&2; exit 3")
    with pytest.raises(
        ServerStartError, match=r"(?s)^script ended with exit code 3 while starting.*2999.*cheese$"
    ) as info:
        server.launch()
    assert len(str(info.value)) < 5000
    assert not server.data_dir.exists()


def test_one_that_dies_of_a_signal_is_told() -> None:
    with pytest.raises(ServerStartError, match="script ended with SIGSEGV while starting; its log is empty"):
        Script("kill -SEGV $$").launch()


def test_one_that_never_answers_is_killed_and_told() -> None:
    server = Script("echo $$ still starting; exec sleep 60")
    with pytest.raises(ServerStartError, match=r"did not answer .* within 0.5 s; (?s:.*) still starting") as info:
        server.launch()
    pid = int(str(info.value).split("\n")[1].split()[0])
    assert not psutil.pid_exists(pid)


def test_an_old_log_is_not_blamed(tmp_path: Path) -> None:
    (tmp_path / "script.log").write_text("an old trouble\n")
    with pytest.raises(ServerStartError) as info:
        Script("echo a new trouble; exit 1", tmp_path).launch()
    assert "a new trouble" in str(info.value)
    assert "an old trouble" not in str(info.value)


def test_one_that_ignores_sigterm_is_killed() -> None:
    server = Script("trap '' TERM; while :; do sleep 0.1; done")
    server.ready = True
    with server.launch():
        time.sleep(0.2)
        pid = server.pid
    assert not psutil.pid_exists(pid)


def test_a_data_folder_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServerStartError, match=r"can't be started in .*file/data"):
        Script("true", tmp_path / "file" / "data").launch()


def test_ports_lie_below_the_ephemeral_range() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(15_000 <= port < ephemeral_floor() for port in ports)
