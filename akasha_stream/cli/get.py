"""Show one stored event."""

from __future__ import annotations

from typing import Annotated

import typer

from akasha_stream.cli.context import output
from akasha_stream.cli.key import Key
from akasha_stream.cli.search import identity, worker_ca, worker_key, worker_url
from akasha_stream.times import rfc3339


def command(
    ctx: typer.Context,
    system: Annotated[str, typer.Argument(help="Its source system; or SYSTEM/ID in one, as `tail` writes it.")],
    event_id: Annotated[str | None, typer.Argument(metavar="ID", help="Its id.")] = None,
    *,
    embedding: Annotated[bool, typer.Option("--embedding", help="With its vector, with --json.")] = False,
    url: Annotated[str | None, typer.Option(help="The worker.  [default: http.host and http.port]")] = None,
    key: Key = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")] = False,
) -> None:
    """Show one stored event.

    \b
    Examples:
      akasha-stream get laptop 42
      akasha-stream get laptop/42 --embedding --json
    """
    from akasha_stream.client import SyncAkashaClient

    if event_id is None:
        system, event_id = identity(system, "get")
    worker = worker_url(ctx, url)
    with SyncAkashaClient(worker, key=worker_key(ctx, key), ca=worker_ca(ctx, worker)) as client:
        event = client.get(system, event_id, embedding=embedding)
    out = output(json)
    place = event.position
    out.table(
        ("field", "value"),
        [
            ("source_system", event.source_system),
            ("event_id", event.event_id),
            ("created_at", rfc3339(event.created_at)),
            ("model", event.model or ""),
            *((f"metadata.{key}", value) for key, value in (event.metadata or {}).items()),
            ("position", f"partition {place.partition}, offset {place.offset}, index {place.index}"),
            ("answered from", event.answered_from),
        ],
    )
    out.line("(archived: needs a restore)" if event.content is None else event.content)
    out.result(event.model_dump(mode="json", exclude_unset=True))
