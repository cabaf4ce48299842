"""Publish a sample, search it, show the figures."""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import typer

from akasha_stream.cli.context import Output, loaded, output, printable, settings

if TYPE_CHECKING:
    from akasha_stream.demo.figures import Figures, Found
    from akasha_stream.demo.flow import Step

COMPLAINTS = 3


def command(
    ctx: typer.Context,
    *,
    broker: Annotated[
        Literal["embedded", "kafka"],
        typer.Option(help="embedded: Tansu, in memory; kafka: Apache Kafka itself (needs Java 17 and Maven)."),
    ] = "embedded",
    count: Annotated[
        int | None,
        typer.Option("--events", min=100, max=500_000, help="How many events.  [default: all 2,400 of the sample]"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")] = False,
) -> None:
    """Publish a bundled sample of real events, search it, show hits and figures.

    Starts a broker, Valkey and a worker of its own, on free ports and in a temporary folder, and removes them all at
    the end; nothing that runs already is touched. Exit code 1 when anything that was published is not found.

    \b
    Examples:
      akasha-stream demo
      akasha-stream demo --broker kafka --events 20000
    """
    from akasha_stream.cli.signals import run_until_signal

    out = output(json)
    run = _Run(ctx, out, broker, count)
    code = run_until_signal(run.run)
    if code == 0 and run.figures is not None:
        _show(out, run.figures, run.seconds)
        if run.note is not None:
            out.line(f"Note: {run.note};")
            out.line("the times would be shorter on an idle one.")
        out.result({**run.figures.to_json(), "broker": broker, "seconds": round(run.seconds, 1)})
        code = 0 if run.figures.complete else 1
    raise typer.Exit(code if run.figures is not None else code or 1)


class _Run:
    """One run of the command; `figures` when it came to its end."""

    def __init__(
        self, ctx: typer.Context, out: Output, broker: Literal["embedded", "kafka"], count: int | None
    ) -> None:
        self._ctx = ctx
        self._out = out
        self._broker = broker
        self._count = count
        settings(ctx, {"logging.level": "warning"})  # wrong settings are told before anything is started
        self.figures: Figures | None = None
        self.seconds = 0.0
        self._load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0

    @property
    def note(self) -> str | None:
        """What makes the figures worse than they could be."""
        cores = os.cpu_count() or 1
        if self._load < cores:
            return None
        return f"this machine was busy before the demo began (load {self._load:.1f} on {cores} cores)"

    async def run(self) -> None:
        from tempfile import TemporaryDirectory

        from akasha_stream.demo.worker_process import WorkerProcess
        from akasha_stream.embedded.together import servers, started

        began = time.monotonic()
        async with AsyncExitStack() as stack:
            bar = stack.enter_context(_Bar())
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="akasha-demo-")))
            bar.say("starting broker and Valkey")
            running = await stack.enter_async_context(servers(self._broker, folder))
            overrides = {
                **running.overrides,
                "hot.data_dir": str(folder / "hot"),
                "logging.level": "warning",
                "logging.format": "json",
            }
            found = settings(self._ctx, overrides)
            from akasha_stream.topics.admin import ensure_topics

            await ensure_topics(found)
            bar.say("starting a worker")
            options = ["--settings", str(loaded(self._ctx).files[0].resolve()), "--env", found.environment]
            worker = await started(
                stack, lambda: WorkerProcess.start(folder / "worker", options=options, overrides=overrides)
            )
            from akasha_stream.demo import flow

            try:
                figures = await flow.run(found, worker.url, count=self._count, report=bar.update)
            finally:
                for line in worker.complaints()[:COMPLAINTS]:
                    self._out.note(f"the worker's log: {line[:1_000]}")
            bar.say("stopping")
        self.seconds = time.monotonic() - began
        self.figures = figures


class _Bar:
    """What goes on, on stderr where that is a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        if console.is_terminal:
            columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task("starting", total=None)
        return self

    def say(self, what: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=what, total=None, completed=0)

    def update(self, step: Step, done: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=step.name, total=step.total, completed=done)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _show(out: Output, figures: Figures, seconds: float) -> None:
    from akasha_stream.demo.figures import percentile

    if not out.json:
        for found in figures.searches:
            _show_search(out, found)
    searchable, search = figures.searchable_ms, figures.search_ms
    out.table(
        ("figure", "value", "what it means"),
        [
            ("published", f"{figures.published:,}", "events that the broker acknowledged"),
            ("stored", f"{figures.stored:,}", "found again, every one, by searches"),
            (
                "duplicates",
                f"{figures.duplicates:,}",
                f"recognised, not stored: {figures.sent_again} sent twice on purpose, "
                f"{figures.same_text} with a text already there",
            ),
            (
                "dead letters",
                f"{figures.dead_letters:,}",
                f"{figures.malformed} broken message, sent on purpose: set aside, with the reason",
            ),
            (
                "events/s",
                f"{figures.events_per_s:,.0f}",
                f"{figures.burst:,} at once: first send until all were searchable",
            ),
            (
                "searchable after",
                f"{percentile(searchable, 50):.0f} ms",
                f"from send to found: median of {len(searchable)} events",
            ),
            ("", f"{percentile(searchable, 99):.0f} ms", "99 of 100 took no longer"),
            (
                "a search takes",
                f"{percentile(search, 50):.1f} ms",
                f"10 hits with their text, over HTTP: median of {len(search)}",
            ),
            ("", f"{percentile(search, 99):.1f} ms", "99 of 100 took no longer"),
        ],
        right={"value"},
    )
    if figures.complete:
        out.line(f"Everything that was published was found. {seconds:.1f} s, servers and all.")
        out.line(f"Next: {this_command()} up --embedded")
    else:
        out.note(
            f"NOT everything is as it must be: {figures.missing} events not found, "
            f"{figures.published} published, {figures.stored} stored, {figures.duplicates} duplicates "
            f"({figures.sent_again + figures.same_text} sent), {figures.dead_letters} dead letters "
            f"({figures.malformed} sent)"
        )


def this_command() -> str:
    """As it can be typed here: `./run demo` leaves it in .venv, which need not be in PATH."""
    program = Path(sys.executable).with_name("akasha-stream")
    if shutil.which("akasha-stream") is not None or not program.exists():
        return "akasha-stream"
    return str(program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program)


def _show_search(out: Output, found: Found) -> None:
    from rich.text import Text

    out.console.print(Text(f"\nSearch: {printable(found.asked)}", style="bold"))
    width = out.console.width
    for similarity, system, content in found.hits:
        line = f"  {similarity:.2f}  {system:<18} {' '.join(printable(content).split())}"
        out.console.print(Text(line if len(line) <= width else f"{line[: width - 1]}…"))
    if not found.hits:
        out.line("  nothing found")
