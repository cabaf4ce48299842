"""A server as a child process: start, wait until it answers, kill, restart, stop."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree
from threading import Lock
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from akasha_stream.embedded.ports import can_bind, free_ports
from akasha_stream.errors import ServerStartError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType


class Server(Protocol):
    """What a test or a command may ask of any server, wherever it runs."""

    @property
    def address(self) -> str:
        """host:port."""
        ...

    def kill(self) -> None: ...
    def restart(self) -> None: ...
    def stop(self) -> None: ...


class Broker(Server, Protocol):
    @property
    def bootstrap_servers(self) -> str: ...


_EXEC_WITH_PARENT = str(Path(__file__).with_name("exec_with_parent.py"))
_LOG_TAIL_BYTES = 4_000
_PORT_TAKEN = ("address already in use", "address in use", "bind failed", "bindexception")

# "Dies with its parent" means, to the kernel, the parent *thread* (prctl(2), PR_SET_PDEATHSIG): a server started from a
# worker thread (asyncio.to_thread, an xdist worker) would be killed when that thread ends. So one thread that lives as
# long as the process starts them all.
_spawner: ThreadPoolExecutor | None = None
_spawner_lock = Lock()
_LOCK_S = 2.0
"""A server whose parent was killed goes within this."""


def _forget_spawner() -> None:
    global _spawner, _spawner_lock
    _spawner, _spawner_lock = None, Lock()


os.register_at_fork(after_in_child=_forget_spawner)


def _spawn(
    command: Sequence[str], env: Mapping[str, str], folder: Path, log_file: Path, stdin: bytes | None, *, lock: int
) -> subprocess.Popen[bytes]:
    # `lock`: a descriptor that the server inherits, and that it knows nothing of.
    def popen() -> subprocess.Popen[bytes]:
        with log_file.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", _EXEC_WITH_PARENT, str(os.getpid()), *command],
                env=dict(env),
                cwd=folder,
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,  # Ctrl-C in the terminal reaches us alone; we stop the servers last
            )
        if stdin is not None and process.stdin is not None:
            try:
                process.stdin.write(stdin)
                process.stdin.close()
            except BrokenPipeError:
                pass  # it died at once; the wait for it says so with its log
        return process

    global _spawner
    with _spawner_lock:
        if _spawner is None:
            _spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="akasha-servers")
    return _spawner.submit(popen).result()


class ServerProcess(ABC):
    """Base of the embedded servers. Not safe for use by several threads at once.

    `data_dir`: kept after stop(); without one, a temporary folder that stop() removes. `port`: 0 picks a free one,
    which stays the same over kill() and restart().
    """

    name: ClassVar[str]
    start_timeout_s: ClassVar[float] = 15.0
    stop_timeout_s: ClassVar[float] = 10.0
    ports_needed: ClassVar[int] = 1

    def __init__(self, data_dir: Path | None = None, port: int = 0) -> None:
        self._owns_dir = data_dir is None
        self.data_dir = (
            Path(tempfile.mkdtemp(prefix=f"akasha-{self.name}-"))
            if data_dir is None
            else data_dir.expanduser().resolve()
        )
        self.log_file = self.data_dir / f"{self.name}.log"
        self._fixed_port = port
        self._ports: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Program (absolute path) and arguments; called at every start, with the ports chosen. Runs in data_dir."""

    @abstractmethod
    def answers(self) -> bool:
        """A request of the server's own protocol gets the answer of a server that is ready. Never raises."""

    def prepare(self) -> None:  # noqa: B027 - most have nothing to write
        """Write what the server reads at its start. Called with the ports chosen."""

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def stdin(self) -> bytes | None:
        return None

    @property
    def port(self) -> int:
        return self._ports[0]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerStartError(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def ending(self) -> str | None:
        """How it ended by itself: `exit code 1`, `SIGKILL`; None while it runs, and after stop()."""
        code = None if self._process is None else self._process.poll()
        return None if code is None else _ending(code)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self) -> Self:
        """First start. Raises ServerStartError, with nothing left running."""
        try:
            for last in (False, False, True):
                self._ports = free_ports(self.ports_needed)
                if self._fixed_port:
                    self._ports[0] = self._fixed_port
                try:
                    self._up()
                except ServerStartError as error:
                    lost_race = any(word in str(error).lower() for word in _PORT_TAKEN) and not self._fixed_port
                    if last or not lost_race:
                        raise
                else:
                    return self
        except BaseException:
            self.stop()
            raise
        raise AssertionError("unreachable")

    def _up(self) -> None:
        for port in self._ports:
            if not can_bind(port):  # else the wait would take another server's answer for ours
                raise ServerStartError(f"{self.name} can't be started: port {port} is taken (address already in use)")
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            lock = self._lock()
            try:
                self.prepare()
                command = self.command()
                began_at = self.log_file.stat().st_size if self.log_file.exists() else 0
                self._process = _spawn(
                    command, self.environment(), self.data_dir, self.log_file, self.stdin(), lock=lock
                )
            finally:
                os.close(lock)  # the server has it too, until its end
        except OSError as error:
            raise ServerStartError(f"{self.name} can't be started in {self.data_dir}: {error}") from error
        deadline = time.monotonic() + self.start_timeout_s
        pause = 0.01
        while not self.answers():
            code = self._process.poll()
            if code is not None:
                self._process = None
                raise ServerStartError(f"{self.name} ended with {_ending(code)} while starting; {self._tail(began_at)}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerStartError(
                    f"{self.name} did not answer on {self.address} within {self.start_timeout_s:g} s; "
                    f"{self._tail(began_at)}"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 0.2)

    def _lock(self) -> int:
        """A locked descriptor. Raises ServerStartError where another server has the folder.

        Servers have locks of their own, which come late: a second Kafka damages what the first is writing before it
        comes to its.
        """
        descriptor = os.open(self.data_dir / f"{self.name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + _LOCK_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    raise ServerStartError(f"{self.name}: another one is running on {self.data_dir}") from error
                time.sleep(0.05)
            else:
                return descriptor

    def _tail(self, began_at: int) -> str:
        """The end of what this start wrote to the log."""
        try:
            with self.log_file.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(began_at, size - _LOG_TAIL_BYTES))
                text = log.read().decode(errors="replace").strip()
        except OSError as error:
            return f"its log can't be read: {error}"
        return f"the end of its log:\n{text}" if text else "its log is empty"

    def kill(self) -> None:
        """SIGKILL, as a power cut would; returns when the process is gone. Data stay."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered, as with a hung server. Undone by resume()."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Stop it if it runs, then start it on the same port and data; returns when it answers."""
        if not self._ports:
            raise ServerStartError(f"{self.name} was never started")
        if not self.data_dir.is_dir():
            raise ServerStartError(f"{self.name} was stopped for good, and its temporary data are gone")
        self._end(signal.SIGTERM)
        self._up()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL; removes the data if they are temporary. May be called twice."""
        self._end(signal.SIGTERM)
        if self._owns_dir:
            rmtree(self.data_dir, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)  # a paused one would not see SIGTERM
            process.send_signal(how)
        try:
            process.wait(self.stop_timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
