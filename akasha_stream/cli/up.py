"""Run a worker, and on request the servers it needs."""

from __future__ import annotations

import asyncio
import os
import shlex
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import structlog
import typer

from akasha_stream.cli.context import Output, output, settings
from akasha_stream.errors import UsageError

if TYPE_CHECKING:
    from akasha_stream.embedded.together import Servers
    from akasha_stream.settings import Settings
    from akasha_stream.storage.settings import StorageSettings
    from akasha_stream.worker import Worker

log = structlog.get_logger(__name__)

WATCH_S = 1.0


def command(
    ctx: typer.Context,
    *,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Start a broker (Tansu, in memory) and Valkey too; Ctrl-C forgets all.")
    ] = False,
    broker: Annotated[
        str | None,
        typer.Option(
            metavar="kafka|HOST:PORT",
            help="kafka: start Apache Kafka itself (needs Java 17 and Maven) and Valkey too, durable. "
            "Else where Kafka is.  [default: broker.bootstrap_servers]",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="[default: hot.data_dir; --embedded: temporary; --broker kafka: akasha-stream in $XDG_DATA_HOME]",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Of the search API; 0: any.  [default: http.port]"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Say what runs where as one JSON object.")] = False,
) -> None:
    """Run a worker with its search API, and on request the servers it needs. Creates the topics if they don't exist.

    Prints what runs where once searches are answered. Ctrl-C (exit code 130) or SIGTERM (0) stops all, in order.
    Servers that it starts take the usual ports (9092, 6379) where they are free, any free ones otherwise.

    \b
    Examples:
      akasha-stream up --embedded
      akasha-stream up --broker kafka --data-dir data
    """
    from akasha_stream.cli.signals import run_until_signal

    if embedded and broker is not None:
        raise UsageError("--embedded starts a broker of its own: give --embedded or --broker, not both")
    kind: Literal["embedded", "kafka"] | None = "embedded" if embedded else "kafka" if broker == "kafka" else None
    run = _Run(ctx, output(json), kind=kind, broker=broker if kind is None else None, data_dir=data_dir, port=port)
    raise typer.Exit(run_until_signal(run.run))


class _Run:
    """One run of the command."""

    def __init__(
        self,
        ctx: typer.Context,
        out: Output,
        *,
        kind: Literal["embedded", "kafka"] | None,
        broker: str | None,
        data_dir: Path | None,
        port: int | None,
    ) -> None:
        # Wrong settings are told before anything is started.
        self._settings = settings(ctx, {"broker.bootstrap_servers": broker, "http.port": port})
        self._ctx = ctx
        self._out = out
        self._kind = kind
        self._broker = broker
        self._data_dir = data_dir
        self._port = port
        self._storage_file: Path | None = None
        """Names the object store of servers that were started here, to other commands."""

    async def run(self) -> None:
        from akasha_stream.cli.serve import serve_worker
        from akasha_stream.topics.admin import ensure_topics

        async with AsyncExitStack() as stack:
            servers = storage = None
            if self._kind is None:
                found = self._with({"hot.data_dir": self._data_dir})
            else:
                from akasha_stream.storage.settings import StorageSettings

                servers, found = await self._start(stack)
                folder = found.hot.data_dir.parent.absolute()
                storage = StorageSettings.local(folder / "objects")
                self._storage_file = folder / "akasha-storage.yml"
                _write_storage(storage, self._storage_file)
                watching = asyncio.create_task(watch_servers(servers), name="servers")
                stack.callback(watching.cancel)
            await ensure_topics(found)
            await serve_worker(found, lambda worker: self._announce(worker, servers), storage)

    async def _start(self, stack: AsyncExitStack) -> tuple[Servers, Settings]:
        from tempfile import TemporaryDirectory

        from akasha_stream.embedded.ports import can_bind
        from akasha_stream.embedded.together import servers

        assert self._kind is not None
        folder = self._data_dir
        if folder is None and self._kind == "embedded":
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="akasha-up-")))
        elif folder is None:
            folder = data_home() / "akasha-stream"
        running = await stack.enter_async_context(servers(self._kind, folder, usual_ports=True))
        port = self._port
        if port is None and not can_bind(self._settings.http.port):
            port = 0
        return running, self._with(
            {
                **running.overrides,
                "hot.data_dir": folder / "hot",
                "tiers.enabled": True,
                "http.port": port,
            }
        )

    def _with(self, overrides: dict[str, object]) -> Settings:
        given: dict[str, object] = {"broker.bootstrap_servers": self._broker, "http.port": self._port}
        given |= {key: str(value) if isinstance(value, Path) else value for key, value in overrides.items()}
        return settings(self._ctx, given)

    def _announce(self, worker: Worker, servers: Servers | None) -> None:
        found, out = worker.settings, self._out
        bootstrap = found.broker.bootstrap_servers
        kind = {"embedded": "Tansu, in memory", "kafka": "Apache Kafka", None: "Kafka"}[self._kind]
        rows = [
            ("search API", worker.url, "OpenAPI at /openapi.json"),
            ("console", f"{worker.url}/", "in a browser"),
            ("broker", bootstrap, kind),
            ("topic", found.topics.embeddings, f"{len(worker.store.owned())} partitions here"),
        ]
        if found.redis.enabled:
            rows.append(
                ("tables", _without_secret(found.redis.url.get_secret_value()), "Valkey" if servers else "Redis")
            )
        kept = "removed at the end" if self._kind == "embedded" and self._data_dir is None else "kept"
        rows.append(("data", str(found.hot.data_dir), kept))
        out.table(("what", "where", ""), rows)
        prefix = "" if bootstrap in _USUAL_BROKERS else f"KAFKA_BOOTSTRAP_SERVERS={bootstrap} "
        url = "" if worker.url == "http://127.0.0.1:8470" else f" --url {worker.url}"
        out.line(f"publish:  {prefix}akasha-stream publish FILE.parquet")
        out.line(f'search:   akasha-stream search "words"{url}')
        redis = "" if servers is None or servers.redis_url in _USUAL_REDIS else f"REDIS_URL={servers.redis_url} "
        out.line(f"status:   {prefix}{redis}akasha-stream status")
        if self._storage_file is not None:
            file = shlex.quote(str(self._storage_file))
            out.line(f"tiers:    AKASHA_STORAGE_SETTINGS={file} akasha-stream tiers list")
        out.line("stop:     Ctrl-C")
        if out.json:
            out.result(
                {
                    "event": "ready",
                    "url": worker.url,
                    "pid": os.getpid(),
                    "bootstrap_servers": bootstrap,
                    "redis": None if not found.redis.enabled else _without_secret(found.redis.url.get_secret_value()),
                    "data_dir": str(found.hot.data_dir),
                    "storage_settings": None if self._storage_file is None else str(self._storage_file),
                    "topic": found.topics.embeddings,
                    "partitions": worker.store.owned(),
                }
            )
        else:
            out.console.file.flush()


async def watch_servers(servers: Servers) -> None:
    """Say once of each server that it ended: to the worker it is only one that does not answer."""
    running = list(servers.processes)
    while running:
        await asyncio.sleep(WATCH_S)
        for server in [each for each in running if each.ending is not None]:
            running.remove(server)
            log.error(
                f"{server.name} ended by itself",
                ended_with=server.ending,
                next="stop this with Ctrl-C, and start it again",
            )


_USUAL_BROKERS = {"localhost:9092", "127.0.0.1:9092"}
_USUAL_REDIS = {"redis://localhost:6379/0", "redis://127.0.0.1:6379/0"}


def _write_storage(storage: StorageSettings, file: Path) -> None:
    """For other commands."""
    import yaml

    values: dict[str, object] = {"default_backend": storage.default_backend, "tiers": storage.tiers}
    for name, backend in storage.backends.items():
        values[name] = backend.model_dump(mode="json", exclude_defaults=True) | {"provider": backend.provider}
    text = yaml.safe_dump({"storage": values}, sort_keys=False).replace("${", "$${")  # a folder may be called so
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def data_home() -> Path:
    """$XDG_DATA_HOME, else ~/.local/share (XDG Base Directory Specification). Raises UsageError without a home."""
    given = os.environ.get("XDG_DATA_HOME", "")
    if Path(given).is_absolute():
        return Path(given)
    try:
        return Path.home() / ".local" / "share"
    except RuntimeError:
        raise UsageError("there is no home folder for durable data: name one with --data-dir") from None


def _without_secret(url: str) -> str:
    from akasha_stream.configuration.secrets import mask_urls

    return mask_urls(url)
