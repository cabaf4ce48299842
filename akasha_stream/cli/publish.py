"""Publish events from a Parquet file, JSON lines or a Session-Buddy database."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from akasha_stream.cli.context import Output, output, settings
from akasha_stream.cli.exits import INTERRUPTED, REFUSED
from akasha_stream.errors import BrokerError, EmbedderMissing, UsageError

if TYPE_CHECKING:
    from akasha_stream.publish.run import Progress
    from akasha_stream.publish.sources.embedding import Embedding
    from akasha_stream.publish.sources.source import Options, Source
    from akasha_stream.settings import Settings

EMBED_BATCH = 64
EMBEDDER = "install akasha-stream[onnx], or set embedder.kind and its endpoint (docs/searching.md)"


def command(  # noqa: PLR0917  Typer's parameters are options
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(help="A file, or - for JSON lines on stdin.")],
    source: Annotated[
        Literal["parquet", "jsonl", "session-buddy"] | None,
        typer.Option("--from", help="What it is.  [default: by content and suffix]"),
    ] = None,
    source_system: Annotated[
        str | None,
        typer.Option("--source-system", help="For rows that name none.  [Session-Buddy's default: session-buddy]"),
    ] = None,
    form: Annotated[
        Literal["arrow", "json"] | None, typer.Option("--format", help="Of the bundles.  [default: publish.format]")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="[default: topics.embeddings]")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many rows that are not published yet.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.1, help="At most so many events a second.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Forget what earlier runs have published.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything, publish nothing.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad row.")] = False,
    column: Annotated[
        list[str] | None, typer.Option("--column", metavar="OURS=THEIRS", help="Another name for a column; repeatable.")
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(help="Of times without a zone, e.g. Europe/Berlin.  [Session-Buddy's default: this machine's]"),
    ] = None,
    embed: Annotated[
        bool | None,
        typer.Option(
            "--embed/--no-embed",
            help="Make embeddings for rows without one, or leave these out.  [default: make them, with an embedder]",
        ),
    ] = None,
    content_ids: Annotated[
        bool, typer.Option("--content-ids", help="JSON lines: make an id of the content for lines that have none.")
    ] = False,
    deletes: Annotated[bool, typer.Option("--deletes", help="Session-Buddy: publish that rows are gone.")] = False,
    duckdb_python: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Session-Buddy: a Python whose DuckDB reads the file, where ours can't."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")] = False,
) -> None:
    """Publish events from a Parquet file, JSON lines or a Session-Buddy database.

    A second run publishes only what is new or changed. Ctrl-C ends a run in an orderly way; the next one goes on
    where it stopped. Exit code 6: some rows were refused, and the others are published.

    \b
    Examples:
      akasha-stream publish events.parquet
      akasha-stream publish notes.jsonl --source-system laptop --rate 500
      tail -f notes.jsonl | akasha-stream publish - --source-system laptop
    """
    from akasha_stream.publish.sources.source import CHUNK_ROWS, Options

    found = settings(ctx, {"publish.format": form, "topics.embeddings": topic})
    options = Options(
        limits=found.limits,
        source_system=source_system,
        columns=_columns(column or []),
        timezone=timezone,
        strict=strict,
        # With a rate, a tenth of a second's events at once: an even pace.
        chunk_rows=CHUNK_ROWS if rate is None else max(1, min(CHUNK_ROWS, int(rate / 10))),
        max_rows=limit,
        deletes=deletes,
        content_ids=content_ids,
        duckdb_python=duckdb_python,
    )
    task = _Task(
        found,
        None if path == "-" else Path(path),
        source,
        options,
        rate=rate,
        restart=restart,
        dry_run=dry_run,
        embed=embed,
    )
    out = output(json)
    progress = asyncio.run(task.run(out))
    _report(out, task, progress)
    if progress.interrupted:
        raise typer.Exit(INTERRUPTED)
    if task.refused:
        raise typer.Exit(REFUSED)


def _columns(given: list[str]) -> dict[str, str]:
    columns = {}
    for pair in given:
        ours, sign, theirs = pair.partition("=")
        if not (ours and sign and theirs):
            raise UsageError(f"--column {pair}: must look like content=body")
        columns[ours] = theirs
    return columns


class _Task:
    """One run of the command."""

    def __init__(
        self,
        found: Settings,
        path: Path | None,
        kind: Any,
        options: Options,
        *,
        rate: float | None,
        restart: bool,
        dry_run: bool,
        embed: bool | None,
    ) -> None:
        self.settings = found
        self.path = path
        self._kind = kind
        self._options = options
        self._rate = rate
        self._restart = restart
        self.dry_run = dry_run
        self._embed = embed
        self.source: Source

    @property
    def refused(self) -> int:
        """Rows that are not published although they were wanted."""
        lacking = 0 if self._embed is False else self.source.without_embedding.count
        return self.source.bad.count + lacking

    async def run(self, out: Output) -> Progress:
        from akasha_stream.publish.publisher import EventPublisher
        from akasha_stream.publish.run import publish_source
        from akasha_stream.publish.sources.open import open_source
        from akasha_stream.telemetry.setup import exported_traces

        stop = asyncio.Event()
        options = replace(self._options, embed=None if self._embed is False else self._embedding())
        if self.dry_run:
            self.source = await asyncio.to_thread(self._open, open_source, await self._log(out), options)
            try:
                with _Bar(self.source) as bar, _Interrupt(stop, None):
                    return await publish_source(self.source, None, stop=stop, report=bar.update)
            finally:
                self.source.close()
        async with exported_traces(self.settings.telemetry), EventPublisher(self.settings) as publisher:
            self.source = await asyncio.to_thread(self._open, open_source, await self._log(out), options)
            try:
                with _Bar(self.source) as bar, _Interrupt(stop, publisher.abandon):
                    return await publish_source(self.source, publisher, rate=self._rate, stop=stop, report=bar.update)
            finally:
                self.source.close()

    def _open(self, open_source: Callable[..., Source], log: str | None, options: Options) -> Source:
        return open_source(
            self.path,
            self._kind,
            options,
            topic=self.settings.topics.embeddings,
            log=log,
            restart=self._restart and not self.dry_run,
        )

    async def _log(self, out: Output) -> str | None:
        """Which log the topic is: checkpoints of another one, or of one that was deleted, don't count."""
        if self.path is None or (self.dry_run and self._restart):
            return None
        from akasha_stream.topics.incarnation import log_incarnation

        try:
            log = await log_incarnation(self.settings.broker, self.settings.topics.embeddings)
        except BrokerError as error:
            if not self.dry_run:
                raise
            out.note(f"{error}; rows that are published already count too")
            return None
        if not log.known:
            out.note("the broker does not say which log the topic is: nothing is remembered for the next run")
        return str(log) if log.known else None

    def _embedding(self) -> Embedding | None:
        import numpy as np

        from akasha_stream.publish.sources.embedding import Embedding
        from akasha_stream.search.embedders import create_embedder

        embedder = create_embedder(self.settings)
        if embedder is None:
            if self._embed:
                raise EmbedderMissing(f"--embed: there is no embedder; {EMBEDDER}")
            return None
        loop = asyncio.get_running_loop()

        def compute(texts: list[str]) -> Any:
            parts = []
            for start in range(0, len(texts), EMBED_BATCH):
                batch = embedder.embed(texts[start : start + EMBED_BATCH])
                parts.append(asyncio.run_coroutine_threadsafe(batch, loop).result())
            return np.concatenate(parts)

        return Embedding(embedder.model, compute)


class _Interrupt:
    """Ctrl-C ends the run in an orderly way; a second one gives up on what is not acknowledged."""

    def __init__(self, stop: asyncio.Event, abandon: Callable[[], None] | None) -> None:
        self._stop = stop
        self._abandon = abandon

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._interrupted)

    def __exit__(self, *raised: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)

    def _interrupted(self) -> None:
        if self._stop.is_set() and self._abandon is not None:
            self._abandon()
        self._stop.set()


class _Bar:
    """Progress with rate and time left on stderr, where that is a terminal."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._bar: Any = None

    def __enter__(self) -> _Bar:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[pace]}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task("publishing", total=self._source.total, pace="")
        return self

    def update(self, progress: Progress) -> None:
        if self._bar is not None:
            pace = f"{progress.events_per_s:,.0f} events/s"
            self._bar.update(self._task, completed=progress.read, pace=pace)

    def __exit__(self, *raised: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _report(out: Output, task: _Task, progress: Progress) -> None:
    source = task.source
    verb = "would be published" if task.dry_run else "published"
    rows: list[tuple[str, str]] = [
        (verb, f"{progress.published:,}"),
        ("read before", f"{source.skipped:,}"),
        ("embedded here", f"{source.embedded:,}"),
        ("without embedding", f"{source.without_embedding.count:,}"),
        ("bad rows", f"{source.bad.count:,}"),
    ]
    if not task.dry_run:
        rows += [
            ("bundles", f"{progress.bundles:,}"),
            ("seconds", f"{progress.seconds:.2f}"),
            ("events/s", f"{progress.events_per_s:,.0f}"),
            ("freshness token", progress.token or "-"),
        ]
    name = str(task.path) if task.path is not None else "stdin"
    out.line(f"{name} → {task.settings.topics.embeddings}")
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        out.line(f"  {label:<{width}}  {value}")
    for title, rejects in (("bad row", source.bad), ("without embedding", source.without_embedding)):
        for place in rejects.places:
            out.line(f"{title}: {place}")
        if rejects.count > len(rejects.places):
            out.line(f"{title}: … and {rejects.count - len(rejects.places):,} more")
    if source.without_embedding.count and not source.options.embed and task.refused:
        out.note(f"nothing makes the embeddings that rows lack: {EMBEDDER}; or leave them out with --no-embed")
    if source.left_out_before:
        out.note(f"{source.left_out_before:,} of those read before were left out: once mended, publish with --restart")
    if task.refused and source.kind != "session-buddy" and task.path is not None and not task.dry_run:
        out.note("the next run does not read these rows again: mend them, and publish with --restart")
    for note in source.notes:
        out.note(note)
    if progress.interrupted:
        out.note("interrupted; the same command goes on from here")
    out.result(
        {
            "source": name,
            "kind": source.kind,
            "topic": task.settings.topics.embeddings,
            "dry_run": task.dry_run,
            "interrupted": progress.interrupted,
            "read": progress.read,
            "published": progress.published,
            "skipped": source.skipped,
            "left_out_before": source.left_out_before,
            "embedded": source.embedded,
            "refused": task.refused,
            "without_embedding": source.without_embedding.count,
            "without_embedding_places": source.without_embedding.places,
            "bad_rows": source.bad.count,
            "bad_places": source.bad.places,
            "bundles": progress.bundles,
            "seconds": round(progress.seconds, 3),
            "events_per_s": round(progress.events_per_s, 1),
            "token": progress.token,
            "notes": source.notes,
        }
    )
