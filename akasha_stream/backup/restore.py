"""What can be put back: topics that are gone, and the settings' files. Offsets put themselves back.

Offsets mean nothing without the log that they count, so none is written into a new Kafka. A shard goes on where the
object store ends, in a new epoch of its own (stream/assignment.py, begin_log): the new log's offset 0 comes after all
that is stored. What that needs is a topic of the same name with all partitions that have segments; this is what a
restore creates, and refuses to change.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from akasha_stream.backup.model import Content
from akasha_stream.errors import UsageError
from akasha_stream.hot.durable import write_bytes
from akasha_stream.settings import BrokerSettings
from akasha_stream.tiers.keys import SegmentKey
from akasha_stream.topics.admin import apply, plan
from akasha_stream.topics.broker import admin_client
from akasha_stream.topics.difference import Change


@dataclass(frozen=True, slots=True)
class Continued:
    """One partition of the embeddings after a restore. `epoch`: how many times its topic was created anew.

    `spilled_to`: the offset after the last one that the object store has, of the log `epoch`; None: it has none.
    """

    partition: int
    epoch: int | None
    spilled_to: int | None
    same_log: bool | None
    """Whether Kafka's topic is that log: then reading goes on at `spilled_to`, else at the new log's start. None: the
    topic is to be created."""


async def restore_topics(
    content: Content, broker: BrokerSettings, *, replication_factor: int | None = None, dry_run: bool = False
) -> list[Change]:
    """Create the topics that are missing, as they were; what differs is left alone and in the answer, `refused`.

    `replication_factor`: instead of the backup's, for a cluster of another size. Raises BrokerError.
    """
    wanted = [
        topic if replication_factor is None else topic.model_copy(update={"replication_factor": replication_factor})
        for topic in content.topics
    ]
    async with admin_client(broker) as admin:
        found = await plan(wanted, admin)
        missing = {change.topic for change in found.changes if change.kind == "create"}
        if not dry_run:
            await apply([topic for topic in wanted if topic.name in missing], admin)
    return [
        change
        if change.kind == "create"
        else Change(change.kind, change.topic, change.key, change.found, change.wanted, refused="left as it is")
        for change in found.changes
    ]


def continued(backup: Content, now: Content) -> list[Continued]:
    """How each partition goes on, by what is in the object store now."""
    topic = backup.topic("embeddings")
    if topic is None:
        return []
    there = now.topic("embeddings")
    last: dict[int, tuple[int, SegmentKey]] = {}
    for each in now.objects:
        key = SegmentKey.parse(each.path) if each.kind == "segment" else None
        if key is not None and key.log.topic == topic.name and each.epoch is not None:
            known = last.get(key.log.partition)
            if known is None or (each.epoch, key.end) > (known[0], known[1].end):
                last[key.log.partition] = each.epoch, key
    found = []
    for partition in range(max(topic.partitions, max(last, default=-1) + 1)):
        epoch, key = last.get(partition, (None, None))
        same = None
        if there is not None and key is not None:
            same = (there.cluster_id, there.topic_id) == (key.log.incarnation.cluster_id, key.log.incarnation.topic_id)
        found.append(Continued(partition, epoch, None if key is None else key.end, same))
    return found


def restore_files(content: Content, folder: Path, *, dry_run: bool = False) -> list[Path]:
    """Write the settings' files below `folder`; those that were written. Equal ones are left.

    Raises UsageError where a file is there that is another: none is written then. OSError.
    """
    wanted = {folder / name: text.encode() for name, text in content.files.items()}
    for path, data in wanted.items():
        if path.exists() and path.read_bytes() != data:
            raise UsageError(f"{path}: is there already, and is another; name a folder that is empty")
    written = [path for path in wanted if not path.exists()]
    for path in () if dry_run else written:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, wanted[path])
    return written
