"""The cluster at a glance."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from akasha_stream.cli.context import Output, operator_settings, output
from akasha_stream.cli.exits import FAILED
from akasha_stream.cli.key import Key
from akasha_stream.cli.lag import Urls
from akasha_stream.cli.watching import Watch, run_watch, watch
from akasha_stream.times import rfc3339

if TYPE_CHECKING:
    from akasha_stream.operations.status import Status
    from akasha_stream.settings import Settings


def command(
    ctx: typer.Context,
    *,
    watch_s: Watch = None,
    url: Urls = None,
    key: Key = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object on the last line; with --watch one a look.")
    ] = False,
) -> None:
    """Show the cluster: broker, topics, workers and their health, and who owns which partition, with rows and segments.

    Workers are found in the registry in Redis, and asked themselves. Exit code 1 if something does not work; what it
    is stands at the end.

    \b
    Examples:
      akasha-stream status
      akasha-stream status --watch 5
      akasha-stream status --json | jq '.problems'
    """
    found = operator_settings(ctx)
    out = output(json)
    urls = tuple(url or ())
    if watch_s is not None:
        run_watch(lambda: _watch(found, urls, out, watch_s))
        return
    from akasha_stream.operations.status import cluster_status

    status = asyncio.run(cluster_status(found, urls))
    _show(out, status)
    if not status.ok:
        raise typer.Exit(FAILED)


async def _watch(found: Settings, urls: tuple[str, ...], out: Output, every_s: float) -> None:
    from akasha_stream.operations.status import cluster_status

    await watch(lambda: cluster_status(found, urls), _show, out, every_s)


def _show(out: Output, status: Status) -> None:
    from akasha_stream.cli.figures import amount, duration, offset

    broker = status.broker
    if broker.reachable:
        brokers = f"{broker.brokers} broker{'' if broker.brokers == 1 else 's'}"
        out.line(f"broker  {broker.bootstrap_servers}: {brokers}, cluster {broker.cluster_id or '-'}")
    else:
        out.line(f"broker  {broker.bootstrap_servers}: no answer")
    if status.topics:
        out.table(
            ("topic", "partitions", "records"),
            [(topic.name, topic.partitions or "missing", amount(topic.records)) for topic in status.topics],
            right=("partitions", "records"),
        )
    if status.workers:
        rows = []
        for number, worker in enumerate(status.workers, start=1):
            bad = [name for name, component in worker.components.items() if not component.ok]
            silent = "refused" if worker.refused else "no answer"
            state = silent if worker.error else "ready" if worker.ready else "not ready"
            rows.append(
                (
                    number,
                    worker.name,
                    worker.url if worker.registered is not None else "",
                    state + (f": {', '.join(bad)}" if bad else ""),
                    _ranges(worker.owned),
                    duration(worker.heartbeat_age_s()),
                )
            )
        out.table(("#", "worker", "url", "state", "partitions", "heartbeat"), rows, right=("#", "heartbeat"))
    # Names are long: the tables below have their numbers.
    numbers = {worker.name: number for number, worker in enumerate(status.workers, start=1)}
    if status.partitions:
        out.table(
            ("part", "owner", "next", "end", "rows", "live", "segs", "sealed", "index", "remote"),
            [
                (
                    each.partition,
                    ", ".join(str(numbers[owner]) for owner in each.owners) or "none",
                    offset(each.next_offset),
                    offset(each.end_offset),
                    amount(each.rows),
                    amount(each.live_rows),
                    amount(each.segments),
                    amount(each.sealed_segments),
                    amount(each.indexed_segments),
                    amount(each.remote_segments),
                )
                for each in status.partitions
            ],
            right=("part", "next", "end", "rows", "live", "segs", "sealed", "index", "remote"),
        )  # fmt: skip
    for worker in status.workers:
        for name, component in worker.components.items():
            out.line(f"{worker.name}  {name}: {'ok' if component.ok else 'NOT OK'}  {component.detail}".rstrip())
    for problem in status.problems:
        out.line(f"problem: {problem}")
    if status.ok:
        out.line("All parts work.")
    for note in status.notes:
        out.note(note)
    out.result(_plain(status))


def _plain(status: Status) -> dict[str, object]:
    values = asdict(status)
    values["workers"] = [
        {
            "name": worker.name,
            "url": worker.url,
            "host": None if worker.registered is None else worker.registered.host,
            "pid": None if worker.registered is None else worker.registered.pid,
            "version": None if worker.registered is None else worker.registered.version,
            "started_at": None if worker.registered is None else rfc3339(worker.registered.started_at),
            "heartbeat_age_s": worker.heartbeat_age_s(),
            "ready": worker.ready,
            "partitions": list(worker.owned),
            "components": {name: asdict(component) for name, component in worker.components.items()},
            "error": worker.error,
        }
        for worker in status.workers
    ]
    return {"ok": status.ok, **values}


def _ranges(partitions: tuple[int, ...]) -> str:
    """`0-3, 7`"""
    runs: list[list[int]] = []
    for partition in sorted(partitions):
        if runs and runs[-1][1] == partition - 1:
            runs[-1][1] = partition
        else:
            runs.append([partition, partition])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs) or "none"
