"""Make, list and revoke API keys.

They are in a file (auth.keys_file) as hashes. Workers that have it take a new key, and refuse a revoked one, within a
second or so.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from akasha_stream.cli.audited import audited
from akasha_stream.cli.context import output, settings
from akasha_stream.cli.times import parse_time
from akasha_stream.errors import UsageError
from akasha_stream.times import rfc3339

if TYPE_CHECKING:
    from akasha_stream.auth.keys import KeyEntry, KeysFile
    from akasha_stream.settings import Settings

command = typer.Typer(help=__doc__, no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")]
File = Annotated[Path | None, typer.Option("--file", metavar="PATH", help="The keys file.  [default: auth.keys_file]")]


@command.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Who or what has it, as logs shall name it.")],
    *,
    scope: Annotated[
        list[str] | None, typer.Option(help="read, write, admin or metrics; may be repeated.  [default: read]")
    ] = None,
    system: Annotated[
        list[str] | None, typer.Option(help="A source system, a beginning (team-a-*), or '*' for all; may be repeated.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="So long from now (90d), or RFC 3339.  [default: never]")
    ] = None,
    file: File = None,
    json: Json = False,
) -> None:
    """Make a key, and print it: once, as the file has only its hash.

    \b
    Examples:
      akasha-stream keys create dashboards --system 'team-a-*'
      akasha-stream keys create operator --scope admin --system '*' --expires 90d
      akasha-stream keys create prometheus --scope metrics --system '*'
    """
    from akasha_stream.auth.keys import NewKey, granted

    if not system:
        raise UsageError("--system: name at least one, or '*' for all")
    found, keys = _keys(ctx, file)
    made = NewKey.make(name, map(granted, scope or ["read"]), system, None if expires is None else _future(expires))
    entry = made.entry
    with audited(found, "keys create", id=made.id, name=name, scopes=entry.scopes, systems=entry.systems):
        try:
            keys.add(made)
        except OSError as error:
            raise UsageError(f"can't write {keys.path}: {error.strerror}") from error
    out = output(json)
    out.note(f"in {keys.path} as {made.id}; the key itself is shown this once")
    out.line(made.secret)
    out.result({"key": made.secret, **_plain(made.id, entry), "file": str(keys.path)})


@command.command("list")
def list_(ctx: typer.Context, file: File = None, json: Json = False) -> None:
    """List the keys: who may do what, until when.

    \b
    Examples:
      akasha-stream keys list
    """
    _, keys = _keys(ctx, file)
    found = keys.read()
    now = datetime.now(UTC)
    out = output(json)
    out.table(
        ("id", "name", "scopes", "systems", "until"),
        [
            (key_id, each.name, " ".join(each.scopes), "\n".join(each.systems), _until(each, now))
            for key_id, each in found.items()
        ],
    )
    out.result({"file": str(keys.path), "keys": [_plain(key_id, each) for key_id, each in found.items()]})


@command.command()
def revoke(
    ctx: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Of the key: ak_<ID>_…")],
    *,
    file: File = None,
    json: Json = False,
) -> None:
    """Take a key away. Workers refuse it within a second or so.

    \b
    Examples:
      akasha-stream keys revoke 3f9a1c20de77
    """
    found, keys = _keys(ctx, file)
    with audited(found, "keys revoke", id=key_id):
        try:
            gone = keys.remove(key_id)
        except OSError as error:
            raise UsageError(f"can't write {keys.path}: {error.strerror}") from error
    out = output(json)
    out.line(f"revoked: {key_id} ({gone.name})")
    out.result(_plain(key_id, gone))


def _keys(ctx: typer.Context, file: Path | None) -> tuple[Settings, KeysFile]:
    from akasha_stream.auth.keys import KeysFile

    found = settings(ctx)
    path = file or found.auth.keys_file
    if path is None:
        raise UsageError("no keys file is set: name one with --file, or in AKASHA_AUTH_KEYS_FILE (auth.keys_file)")
    return found, KeysFile(path)


def _future(text: str) -> datetime:
    """`90d` is so long from now; all else is a time. Raises UsageError."""
    time, now = parse_time(text), datetime.now(UTC)
    if re.fullmatch(r"[\d.]+[a-z]+", text.strip(), re.ASCII):
        time = now + (now - time)
    if time <= now:
        raise UsageError(f"--expires: {text} is over already")
    return time.replace(microsecond=0)


def _until(entry: KeyEntry, now: datetime) -> str:
    if entry.expires_at is None:
        return "-"
    return f"{rfc3339(entry.expires_at)}{' (over)' if entry.expired(now) else ''}"


def _plain(key_id: str, entry: KeyEntry) -> dict[str, object]:
    return {"id": key_id, **entry.model_dump(mode="json", exclude={"sha256"})}
