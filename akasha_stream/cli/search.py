"""Search by text, by vector or by an event that is stored."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from akasha_stream.cli.context import output, printable, settings
from akasha_stream.cli.figures import counted
from akasha_stream.cli.key import Key
from akasha_stream.cli.times import parse_time
from akasha_stream.errors import UsageError
from akasha_stream.times import rfc3339

if TYPE_CHECKING:
    from pydantic import SecretStr

    from akasha_stream.cli.context import Output
    from akasha_stream.search.query import Hit, SearchRequest, SearchResponse
    from akasha_stream.settings import Settings

_EXCERPT = 220
_TOKENS = re.compile(r"\d+:\d+(,\d+:\d+)*", re.ASCII)
# Longest first: ">=" must not be read as ">".
_OPERATORS = {"!=": "ne", ">=": "gte", "<=": "lte", "=": "eq", ">": "gt", "<": "lt"}


def command(
    ctx: typer.Context,
    text: Annotated[str | None, typer.Argument(help="What to look for, in words.")] = None,
    *,
    vector: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A vector instead: a JSON list, or a .npy file.")
    ] = None,
    like: Annotated[
        str | None, typer.Option(metavar="SYSTEM/ID", help="Events like this one instead. Split at the first slash.")
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", help="How many events.")] = 10,
    threshold: Annotated[float | None, typer.Option(help="Least cosine similarity, -1 to 1.")] = None,
    system: Annotated[list[str] | None, typer.Option(help="Only this source system; may be repeated.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Created at or after: RFC 3339, a date, or 2h (ago).")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Created before: likewise.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Metadata condition: = != > >= < <=, or a key alone; may be repeated."),
    ] = None,
    after: Annotated[
        list[str] | None, typer.Option(metavar="TOKEN", help="Wait until this freshness token is searchable.")
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN", help="As it was then: PARTITION:OFFSET, joined by commas, or RFC 3339, a date, 2h (ago)."
        ),
    ] = None,
    fields: Annotated[str | None, typer.Option(metavar="A,B", help="Fields of a hit, with --json.")] = None,
    index: Annotated[str | None, typer.Option(help="auto, codes, hnsw or exact.")] = None,
    url: Annotated[str | None, typer.Option(help="The worker.  [default: http.host and http.port]")] = None,
    key: Key = None,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A data directory that no worker runs on, instead of a worker.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")] = False,
) -> None:
    """Search by text, by vector or by an event that is stored.

    \b
    Examples:
      akasha-stream search "retry with back-off" --system laptop --since 7d
      akasha-stream search --like laptop/42 --k 5 --where section=doc
    """
    from akasha_stream.client import SyncAkashaClient, build_request

    if (text, vector, like).count(None) != 2:
        raise UsageError('one is needed, and only one: "words", --vector FILE or --like SYSTEM/ID')
    filters: dict[str, Any] = {}
    if system:
        filters["systems"] = system
    for name, time in (("created_after", since), ("created_before", until)):
        if time is not None:
            filters[name] = rfc3339(parse_time(time))
    if where:
        filters["metadata"] = _conditions(where)
    options: dict[str, Any] = {
        "text": text,
        "vector": None if vector is None else _vector(vector),
        "like": None if like is None else identity(like, "--like"),
        "k": k,
        "threshold": threshold,
        "filters": filters or None,
        "after": after or None,
        "as_of": None if as_of is None else as_of if _TOKENS.fullmatch(as_of) else rfc3339(parse_time(as_of)),
        "fields": None if fields is None else [f.strip() for f in fields.split(",")],
        "index": index,
    }
    request = build_request(**options)
    if data_dir is not None:
        found = asyncio.run(_in_directory(settings(ctx, {"hot.data_dir": str(data_dir)}), request))
    else:
        worker = worker_url(ctx, url)
        with SyncAkashaClient(worker, key=worker_key(ctx, key), ca=worker_ca(ctx, worker)) as client:
            found = client.search(request)
    out = output(json)
    _show(out, found)
    out.result(found.model_dump(mode="json", exclude_unset=True))


async def _in_directory(found: Settings, request: SearchRequest) -> SearchResponse:
    from akasha_stream.local.access import ThroughDirectory
    from akasha_stream.search.embedders import create_embedder

    if not (found.hot.data_dir / found.topics.embeddings).is_dir():
        raise UsageError(f"--data-dir: {found.hot.data_dir} has nothing of {found.topics.embeddings}")
    embedder = None if request.text is None else create_embedder(found)
    directory = await ThroughDirectory.open(found, embedder=embedder)
    try:
        return await directory.search(request)
    finally:
        await directory.close()


def worker_url(ctx: typer.Context, url: str | None) -> str:
    """--url, or where the settings say that the worker listens."""
    if url is not None:
        return url
    from akasha_stream.client import local_url

    return local_url(settings(ctx).http)


def worker_ca(ctx: typer.Context, url: str) -> Path | None:
    """Whom to trust there; the settings are read where that matters only."""
    return settings(ctx).http.tls_ca if url.startswith("https:") else None


def worker_key(ctx: typer.Context, key: str | None) -> SecretStr | str | None:
    """--key or its variable, or what the settings have."""
    return settings(ctx).auth.key if key is None else key


def _show(out: Output, found: SearchResponse) -> None:
    if found.hits:
        out.table(
            ("sim", "event", "content"),
            [(_similarity(hit), f"{hit.source_system}\n{hit.event_id}", _text(hit)) for hit in found.hits],
            right="sim",
        )
    else:
        for line in _nothing(found):
            out.line(line)
    indexes = ", ".join(sorted({part.index for part in found.plan})) or "nothing"
    rows = sum(part.rows for part in found.plan)
    hits = "1 hit" if len(found.hits) == 1 else f"{len(found.hits)} hits"
    out.line(f"{hits} in {found.took_ms:.1f} ms, from {rows:,} rows by {indexes}")
    for part in found.incomplete:
        out.note(f"incomplete: {part.detail}")


def _nothing(found: SearchResponse) -> list[str]:
    """What was searched without a hit, and what to look at."""
    rows, matching = sum(part.rows for part in found.plan), sum(part.matching for part in found.plan)
    if not rows and found.complete:
        return ["Nothing found: no events are stored yet.", "publish:  akasha-stream publish FILE"]
    partitions = counted(len({part.partition for part in found.plan}), "partition")
    whole = "everything was searched" if found.complete else "not everything could be searched"
    lines = [f"Nothing found in {counted(rows, 'row')} of {partitions}; {whole}."]
    if rows and not matching:
        lines.append("None of these rows is live and passes the filters.")
    elif matching:
        lines.append(f"{counted(matching, 'row')} passed the filters on system and time, none the other conditions.")
    return lines


def _similarity(hit: Hit) -> str:
    return f"~{hit.similarity:.2f}" if hit.needs_restore else f"{hit.similarity:.3f}"


def _text(hit: Hit) -> str:
    return "(archived: needs a restore)" if hit.needs_restore else _excerpt(hit.content or "")


def _excerpt(text: str) -> str:
    flat = " ".join(printable(text).split())
    return flat if len(flat) <= _EXCERPT else f"{flat[: _EXCERPT - 1]}…"


def identity(text: str, where: str) -> tuple[str, str]:
    """SYSTEM/ID, split at the first slash. Raises UsageError with `where` it was given."""
    system, slash, event_id = text.partition("/")
    if not (system and slash and event_id):
        raise UsageError(f"{where}: {text!r} must look like SYSTEM/ID")
    return system, event_id


def _conditions(texts: list[str]) -> dict[str, dict[str, Any]]:
    conditions: dict[str, dict[str, Any]] = {}
    for text in texts:
        places = [(at, -len(sign), sign) for sign in _OPERATORS if (at := text.find(sign)) > 0]
        if not places:
            conditions.setdefault(text, {})["exists"] = True
            continue
        at, _, sign = min(places)
        conditions.setdefault(text[:at], {})[_OPERATORS[sign]] = _value(text[at + len(sign) :])
    return conditions


def _value(text: str) -> Any:
    """JSON where it is a scalar (5, true, null, "5"), else the text itself."""
    import json

    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, list | dict) else value


def _vector(path: Path) -> list[float]:
    try:
        if path.suffix == ".npy":
            import numpy as np

            values = np.load(path, allow_pickle=False).ravel().tolist()
        else:
            import json

            values = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"--vector: can't read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"--vector: {path} is neither a JSON list nor a .npy file") from error
    if not isinstance(values, list) or not all(isinstance(x, int | float) for x in values):
        raise UsageError(f"--vector: {path} must hold one list of numbers")
    return values
