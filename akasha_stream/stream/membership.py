"""What this data folder's last worker was in the consumer group, for the one that comes after it.

After kill -9 the group keeps the dead member until its session ends (ingest.session_timeout_s after its last
heartbeat), and nobody who joins gets a partition before that. The next worker holds the folder's lock, which proves
that the dead one is dead, so it says goodbye in its name. It also knows which shards it most likely gets back.
"""

from __future__ import annotations

from pathlib import Path

import structlog
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError, NoError, UnknownMemberIdError, for_code
from aiokafka.protocol.group import LeaveGroupRequest
from pydantic import BaseModel, ConfigDict, ValidationError

from akasha_stream.hot.durable import write_bytes

log = structlog.get_logger(__name__)


class Membership(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    group: str
    member_id: str
    partitions: tuple[int, ...]

    @classmethod
    def read(cls, folder: Path) -> Membership | None:
        """The last one that was written; None where there is none that can be read: it only saves time."""
        try:
            return cls.model_validate_json(_path(folder).read_bytes())
        except (OSError, ValidationError):
            return None

    def write(self, folder: Path) -> None:
        """Raises OSError."""
        write_bytes(_path(folder), self.model_dump_json().encode())


async def leave(client: AIOKafkaClient, member: Membership) -> None:
    """Take a member that is dead out of its group, if it is still in it. Never fails: its session ends anyway."""
    try:
        node = await client.coordinator_lookup(CoordinationType.GROUP, member.group)
        await client.ready(node, group=ConnectionGroup.COORDINATION)
        request = LeaveGroupRequest(member.group, member.member_id)
        answer = await client.send(node, request, group=ConnectionGroup.COORDINATION)
    except (KafkaError, OSError) as exc:
        log.info("last worker's membership not ended, its session has to end", error=repr(exc))
        return
    error = for_code(answer.error_code)
    if error is NoError:
        log.info("last worker had not left the group, it has now", member=member.member_id)
    elif error is not UnknownMemberIdError:  # which it is after every orderly end
        log.info("last worker's membership not ended, its session has to end", error=error.__name__)


def _path(folder: Path) -> Path:
    return folder / "membership.json"
