"""Run one worker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from akasha_stream.cli.context import output, settings


def command(
    ctx: typer.Context,
    *,
    broker: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Kafka.  [default: broker.bootstrap_servers]")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Where its shards are.  [default: hot.data_dir]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Of the search API; 0: any.  [default: http.port]")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Say that it is ready as one JSON object.")] = False,
) -> None:
    """Run one worker: ingest its partitions and answer searches, until SIGTERM (exit code 0) or Ctrl-C (130).

    Prints one line to stdout when its shards are open: the address of the search API and the partitions. Logs go to
    stderr. The topics must exist (akasha-stream topics apply).

    \b
    Examples:
      akasha-stream worker
      akasha-stream worker --data-dir data/two --port 8471
    """
    from akasha_stream.cli.serve import announce, serve_worker
    from akasha_stream.cli.signals import run_until_signal

    found = settings(
        ctx,
        {
            "broker.bootstrap_servers": broker,
            "hot.data_dir": None if data_dir is None else str(data_dir),
            "http.port": port,
        },
    )
    out = output(json)
    raise typer.Exit(run_until_signal(lambda: serve_worker(found, lambda worker: announce(out, worker))))
