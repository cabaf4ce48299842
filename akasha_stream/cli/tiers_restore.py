"""`tiers restore`"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from akasha_stream.cli.audited import audited
from akasha_stream.cli.context import Output, output, settings
from akasha_stream.cli.progress import progress_bar
from akasha_stream.cli.stored import choose, tier_store
from akasha_stream.cli.tier_options import DryRun, Json, Names, Since, System, Until
from akasha_stream.errors import StorageError, UsageError
from akasha_stream.times import rfc3339

if TYPE_CHECKING:
    from akasha_stream.tiers.restore import Restoring


def restore(
    ctx: typer.Context,
    segments: Names = None,
    *,
    system: System = None,
    since: Since = None,
    until: Until = None,
    every: Annotated[bool, typer.Option("--all", help="All that are archived.")] = False,
    days: Annotated[
        int | None, typer.Option(min=1, help="How long S3 keeps them readable.  [default: tier_policy.restore_days]")
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Ask for nothing, show how far it is.")] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Ask for archived segments to become readable, or show how far that is.

    It takes hours, and costs. On S3 they go back by themselves; on Azure `tiers migrate SEGMENT --to cold` does it.

    \b
    Examples:
      akasha-stream tiers restore 3:0-50000 --days 3
      akasha-stream tiers restore --status
    """
    from akasha_stream.tiers.restore import archived_segments
    from akasha_stream.tiers.restore import restore as ask

    configured, out = settings(ctx), output(json)
    by_content = bool(system or since or until)
    if not (segments or by_content or every or status):
        raise UsageError("say which: a SEGMENT, --system, --since, --until, or --all")

    asking = not (status or dry_run)

    async def run() -> None:
        async with tier_store(configured, topic=configured.topics.embeddings, out=out) as store:
            found = await archived_segments(store)
            if segments or by_content:
                chosen = {each.key for each in choose(store.catalog, segments, system, since, until)}
                found = [each for each in found if each.key in chosen]
                if segments and not found:
                    out.note("none of them is archived: they can be read as they are")
            with progress_bar("asking", len(found)) as advance:
                states = await ask(
                    store, found, days or configured.tier_policy.restore_days, only_ask=not asking, on_each=advance
                )
            _report_restore(out, states, asked=asking)

    about = {"segments": segments, "all": every, "system": system, "since": since, "until": until, "days": days}
    with audited(configured, "tiers restore", dry_run=not asking, **about):
        asyncio.run(run())


def _report_restore(out: Output, states: list[Restoring], *, asked: bool) -> None:
    from akasha_stream.tiers.words import bytes_in_words

    def state(each: Restoring) -> str:
        if each.state is None:
            return f"not known: {each.error}"
        until = f" until {each.state.expires:%Y-%m-%d %H:%M} UTC" if each.state.expires else ""
        return f"{each.state.status}{until}"

    rows = [
        (
            each.archived.path if each.archived.key is None else each.archived.key.short,
            each.archived.tier,
            each.archived.storage_class,
            bytes_in_words(each.archived.size),
            state(each),
            "" if each.state is not None and each.state.readable else each.takes,
        )
        for each in states
    ]
    if rows:
        out.table(("segment", "tier", "class", "size", "state", "takes"), rows, right=("size",))
    else:
        out.line("Nothing is archived.")
    out.result(
        {
            "asked": asked,
            "segments": [
                {
                    "segment": None if each.archived.key is None else each.archived.key.short,
                    "path": each.archived.path,
                    "tier": each.archived.tier,
                    "storage_class": each.archived.storage_class,
                    "bytes": each.archived.size,
                    "state": None if each.state is None else each.state.status,
                    "readable": each.state is not None and each.state.readable,
                    "expires": rfc3339(each.state.expires) if each.state and each.state.expires else None,
                    "takes": each.takes,
                    "error": each.error or None,
                }
                for each in states
            ],
        }
    )
    failed = [each for each in states if each.error]
    if failed:
        raise StorageError(f"{len(failed)} of {len(states)} could not be asked: {failed[0].error}")
