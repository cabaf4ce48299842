"""Create the Kafka topics, and compare them with their definitions."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from akasha_stream.cli.audited import audited
from akasha_stream.cli.context import Output, output, settings

if TYPE_CHECKING:
    from akasha_stream.settings import Settings
    from akasha_stream.topics.difference import Plan

command = typer.Typer(help=__doc__, no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")]


@command.command("apply")
def apply_(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    grow: Annotated[
        bool, typer.Option("--grow", help="Add partitions even to topics that say `grow: refuse`.")
    ] = False,
    json: Json = False,
) -> None:
    """Create what is missing and change what differs; running it again changes nothing.

    Partitions are never taken away. Exit code 5 if something differs that can't be changed.

    \b
    Examples:
      akasha-stream topics apply --dry-run
      akasha-stream topics apply --grow
    """
    from akasha_stream.topics.admin import drift

    configured = settings(ctx)
    with audited(configured, "topics apply", dry_run=dry_run, grow=grow):
        found = asyncio.run(_apply(configured, dry_run=dry_run, grow=grow))
    out = output(json)
    _report(out, found, done=not dry_run)
    if not found.changes:
        out.line("The topics are as defined.")
    out.result({"dry_run": dry_run, **_plain(found)})
    if found.refused and not dry_run:
        raise drift(found.refused)


@command.command("check")
def check_(ctx: typer.Context, json: Json = False) -> None:
    """Compare the broker's topics with their definitions; exit code 5 if they differ.

    \b
    Examples:
      akasha-stream topics check || akasha-stream topics apply
    """
    from akasha_stream.topics.admin import drift

    found = asyncio.run(_apply(settings(ctx), dry_run=True, grow=False))
    out = output(json)
    _report(out, found, done=False)
    out.result({"ok": not found.changes, **_plain(found)})
    if found.changes:
        raise drift(found.changes)
    out.line("The topics are as defined.")


@command.command("list")
def list_(ctx: typer.Context, json: Json = False) -> None:
    """Show the topics as defined, and how many partitions each has on the broker.

    \b
    Examples:
      akasha-stream topics list --json
    """
    from akasha_stream.topics.definition import definitions

    configured = settings(ctx)
    wanted = definitions(configured)
    present = asyncio.run(_partitions(configured))
    out = output(json)
    rows = [
        (topic.role or "-", topic.name, topic.partitions, present.get(topic.name, "missing"), topic.replication_factor)
        for topic in wanted
    ]
    out.table(("role", "name", "defined", "on broker", "replicas"), rows, right=("defined", "on broker", "replicas"))
    out.result(
        {
            "topics": [
                {
                    "role": topic.role,
                    "name": topic.name,
                    "partitions": topic.partitions,
                    "replication_factor": topic.replication_factor,
                    "config": topic.config,
                    "partitions_on_broker": present.get(topic.name),
                }
                for topic in wanted
            ]
        }
    )


async def _apply(configured: Settings, *, dry_run: bool, grow: bool) -> Plan:
    from akasha_stream.topics.admin import apply, plan
    from akasha_stream.topics.broker import admin_client
    from akasha_stream.topics.definition import definitions

    wanted = definitions(configured)
    async with admin_client(configured.broker) as admin:
        return await (plan if dry_run else apply)(wanted, admin, allow_growth=grow)


async def _partitions(configured: Settings) -> dict[str, int]:
    from akasha_stream.topics.broker import admin_client, describe_topics

    async with admin_client(configured.broker) as admin:
        return {name: topic.partitions for name, topic in (await describe_topics(admin)).items()}


def _report(out: Output, found: Plan, *, done: bool) -> None:
    if found.changes:
        out.table(
            ("topic", "what", "found", "wanted", "changed" if done else "to do"),
            [
                (
                    change.topic,
                    "topic" if change.kind == "create" else change.key,
                    change.found or "missing",
                    change.wanted,
                    "no" if change.refused else "yes",
                )
                for change in found.changes
            ],
        )
    for change in found.refused:
        out.note(f"{change.topic}: {change.key} stays {change.found}: {change.refused}")
    for note in found.notes:
        out.note(note)


def _plain(found: Plan) -> dict[str, object]:
    return {"changes": [asdict(change) for change in found.changes], "notes": list(found.notes)}
