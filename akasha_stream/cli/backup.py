"""Back up what can't be derived, compare a backup with what there is, and put back what can be put back.

A backup holds the settings' files (without secrets), the topics as they are in Kafka, offsets with the logs that they
belong to, and a list of all objects. It holds no events: those are in the object store and in Kafka, and the buckets
are copied with the provider's tools. docs/disaster-recovery.md has the drills.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from akasha_stream.cli.audited import audited
from akasha_stream.cli.context import Output, loaded, output, quiet_libraries
from akasha_stream.cli.exits import FAILED
from akasha_stream.times import rfc3339

if TYPE_CHECKING:
    from pathlib import Path as FilePath

    from akasha_stream.backup.archive import Backup
    from akasha_stream.backup.compare import Comparison
    from akasha_stream.backup.model import Content
    from akasha_stream.backup.restore import Continued
    from akasha_stream.configuration.load import Loaded
    from akasha_stream.topics.difference import Change

command = typer.Typer(help=__doc__, no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")]
Urls = Annotated[
    list[str] | None, typer.Option("--url", metavar="URL", help="A worker besides those of the registry in Redis.")
]
WithoutKafka = Annotated[bool, typer.Option("--without-kafka", help="Kafka is lost: what it alone had counts as lost.")]
Place = Annotated[str, typer.Argument(metavar="BACKUP", help="A file, or store:NAME.")]


@command.command()
def create(
    ctx: typer.Context,
    place: Annotated[
        str | None,
        typer.Argument(
            metavar="BACKUP",
            help="A file, or store:NAME in the hot tier's bucket.  [default: akasha-<time>.backup.json]",
        ),
    ] = None,
    url: Urls = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would hold, and write nothing.")] = False,
    json: Json = False,
) -> None:
    """Write a backup: one file with its own checksum. Workers may run; nothing is stopped or changed.

    \b
    Examples:
      akasha-stream backup create /backups/monday.json
      akasha-stream backup create store:monday.json
    """
    from akasha_stream.backup.archive import pack
    from akasha_stream.backup.place import BackupPlace, default_name

    target = BackupPlace.parse(place or default_name())
    found, out = _loaded(ctx), output(json)

    async def run() -> tuple[Content, int]:
        content = await _collect(found, url or ())
        data = pack(content)
        if not dry_run:
            await target.write(data)
        return content, len(data)

    content, size = asyncio.run(run())
    _show_content(out, content)
    out.line(f"{target}: {size:,} bytes{', not written' if dry_run else ''}")
    out.result({"backup": str(target), "dry_run": dry_run, "bytes": size, **_plain_content(content)})


@command.command()
def verify(
    ctx: typer.Context, place: Place, url: Urls = None, without_kafka: WithoutKafka = False, json: Json = False
) -> None:
    """Compare a backup with what there is now, and say exactly what would be lost.

    Exit code 1 where something is lost or damaged, 5 where only topics differ. Compaction, moves between tiers and
    newer events are no faults. Checksums inside the objects: akasha-stream segments check --bodies.

    \b
    Examples:
      akasha-stream backup verify /backups/monday.json
    """
    from dataclasses import asdict

    from akasha_stream.backup.compare import compare
    from akasha_stream.errors import TopicDrift

    found, out = _loaded(ctx), output(json)

    async def run() -> tuple[Backup, Comparison]:
        backup = await _read(place)
        return backup, compare(backup.content, await _collect(found, url or (), kafka=not without_kafka))

    backup, comparison = asyncio.run(run())
    _show_comparison(out, backup, comparison)
    out.result({"ok": comparison.ok, "created_at": rfc3339(backup.created_at), **asdict(comparison)})
    if comparison.of("lost") or comparison.of("damaged"):
        raise typer.Exit(FAILED)
    if topics := comparison.of("topics"):
        raise TopicDrift("; ".join(f"{each.subject}: {each.detail}" for each in topics))


@command.command()
def restore(  # noqa: PLR0917  Typer's parameters are options
    ctx: typer.Context,
    place: Place,
    files_to: Annotated[
        str | None, typer.Option("--files-to", metavar="DIR", help="Write settings/ and topics/ of the backup there.")
    ] = None,
    topics: Annotated[bool, typer.Option("--topics/--no-topics", help="Create the topics that Kafka lacks.")] = True,
    replication_factor: Annotated[
        int | None,
        typer.Option("--replication-factor", min=1, metavar="N", help="Instead of the backup's, for another cluster."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    json: Json = False,
) -> None:
    """Put back topics and settings; run again, it changes nothing.

    A topic that is there and differs is left alone (exit code 5), a file that is there and differs too (exit code 2).
    Offsets need no restoring: a worker goes on where the object store ends, and takes a new log from its start.

    \b
    Examples:
      akasha-stream backup restore /backups/monday.json --dry-run
      akasha-stream backup restore store:monday.json --files-to restored --topics
    """
    from dataclasses import asdict
    from pathlib import Path

    from akasha_stream.topics.admin import drift

    found, out = _loaded(ctx), output(json)
    with audited(found.settings, "backup restore", dry_run=dry_run, backup=place, files_to=files_to, topics=topics):
        backup, written, changes, partitions, notes = asyncio.run(
            _restore(
                found,
                place,
                None if files_to is None else Path(files_to),
                topics=topics,
                replication_factor=replication_factor,
                dry_run=dry_run,
            )
        )
    done = "would be " if dry_run else ""
    for path in written:
        out.line(f"{path}: {done}written")
    for change in changes:
        out.line(str(change) if change.refused else f"{change.topic}: {done}created, {change.wanted}")
    if not written and not changes:
        out.line("Nothing is to be done.")
    out.table(
        ("part", "object store has", "reading goes on"),
        [(each.partition, _spilled(each), _goes_on(each)) for each in partitions],
        right=("part",),
    )
    if written and backup.content.secrets_left_out:
        out.note(f"without secrets, set their variables: {', '.join(backup.content.secrets_left_out)}")
    for note in notes:
        out.note(note)
    out.result(
        {
            "dry_run": dry_run,
            "files": [str(path) for path in written],
            "secrets_left_out": backup.content.secrets_left_out,
            "topics": [asdict(change) for change in changes],
            "partitions": [asdict(each) for each in partitions],
            "notes": notes,
        }
    )
    if refused := [change for change in changes if change.refused]:
        raise drift(refused)


def _loaded(ctx: typer.Context) -> Loaded:
    found = loaded(ctx)
    quiet_libraries(found.settings.logging)
    return found


async def _collect(found: Loaded, urls: list[str] | tuple[str, ...], *, kafka: bool = True) -> Content:
    from akasha_stream.backup.collect import collect
    from akasha_stream.cli.progress import ProgressBar
    from akasha_stream.configuration.storage import load_storage

    storage = load_storage(environment=found.settings.environment)
    with ProgressBar() as bar:
        return await collect(found, storage, urls, kafka=kafka, report=bar.update)


async def _read(place: str) -> Backup:
    from akasha_stream.backup.archive import unpack
    from akasha_stream.backup.place import BackupPlace

    target = BackupPlace.parse(place)
    return unpack(await target.read(), str(target))


async def _restore(
    found: Loaded,
    place: str,
    files_to: FilePath | None,
    *,
    topics: bool,
    replication_factor: int | None,
    dry_run: bool,
) -> tuple[Backup, list[FilePath], list[Change], list[Continued], list[str]]:
    from akasha_stream.backup.restore import continued, restore_files, restore_topics

    backup = await _read(place)
    written = [] if files_to is None else restore_files(backup.content, files_to, dry_run=dry_run)
    if not topics:
        return backup, written, [], [], []
    broker = found.settings.broker
    changes = await restore_topics(backup.content, broker, replication_factor=replication_factor, dry_run=dry_run)
    partitions = continued(backup.content, await _collect(found, ()))
    topic = backup.content.topic("embeddings")
    notes = []
    if topic is not None and len(partitions) > topic.partitions:
        notes.append(
            f"the object store has segments of {len(partitions)} partitions, and {topic.name} had {topic.partitions} "
            "at the time of the backup: nobody searches the others until it has as many"
        )
    return backup, written, changes, partitions, notes


def _spilled(each: Continued) -> str:
    return "nothing" if each.spilled_to is None else f"epoch {each.epoch}, offsets to {each.spilled_to}"


def _goes_on(each: Continued) -> str:
    if each.spilled_to is None:
        return "at the log's start"
    if each.same_log:
        return f"at offset {each.spilled_to}"
    return f"at the new log's start, as epoch {(each.epoch or 0) + 1}"


def _show_content(out: Output, content: Content) -> None:
    kinds = dict.fromkeys(("segment", "state", "stub", "forgotten"), 0)
    for each in content.objects:
        kinds[each.kind] += 1
    out.table(
        ("topic", "partitions", "replicas", "offsets in the log"),
        [
            (each.name, each.partitions, each.replication_factor, sum(log.end - log.first for log in each.logs))
            for each in content.topics
        ],
        right=("partitions", "replicas", "offsets in the log"),
    )
    out.line(
        f"{len(content.files)} files, {kinds['segment']:,} segments, {kinds['state']:,} states, "
        f"{kinds['stub']:,} stubs, {kinds['forgotten']:,} entries of forgotten systems"
    )
    for key in content.secrets_left_out:
        out.line(f"left out, as it is a secret: {key}")
    for note in content.notes:
        out.note(note)


def _plain_content(content: Content) -> dict[str, object]:
    return {
        "files": sorted(content.files),
        "secrets_left_out": content.secrets_left_out,
        "topics": [
            {"name": each.name, "partitions": each.partitions, "replication_factor": each.replication_factor}
            for each in content.topics
        ],
        "objects": len(content.objects),
        "rows": sum(each.rows or 0 for each in content.objects),
        "local_log": content.local_log,
        "notes": content.notes,
    }


def _show_comparison(out: Output, backup: Backup, found: Comparison) -> None:
    out.line(f"backup of {rfc3339(backup.created_at, 'seconds')}, release {backup.version}")
    out.table(
        ("segments", "same", "moved", "rewritten", "missing", "changed", "added since"),
        [("", found.same, found.moved, found.rewritten, found.missing, found.changed, found.added)],
        right=("same", "moved", "rewritten", "missing", "changed", "added since"),
    )
    for severity in ("lost", "damaged", "topics", "note"):
        for each in found.of(severity):
            rows = "" if each.rows is None else f" ({each.rows:,} rows of spilled segments)"
            out.line(f"{severity}: {each.subject}: {each.detail}{rows}")
    if found.ok:
        out.line("Nothing is lost: every offset of the backup is in the object store or in Kafka.")
