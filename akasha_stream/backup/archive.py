"""The file of a backup: two lines of JSON.

{"akasha_backup": 1, "created_at": …, "version": …, "sha256": …}     the format, and the checksum of the next line
{…}                                                                  model.Content
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from akasha_stream import __version__
from akasha_stream.backup.model import Content
from akasha_stream.errors import BackupDamaged, UsageError

FORMAT = 1


class _Format(BaseModel):
    akasha_backup: int


class _Head(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    akasha_backup: int = Field(default=FORMAT)
    created_at: datetime
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Backup:
    """`version`: of the release that made it."""

    created_at: datetime
    version: str
    content: Content


def pack(content: Content, now: datetime | None = None) -> bytes:
    body = content.model_dump_json().encode()
    head = _Head(created_at=now or datetime.now(UTC), version=__version__, sha256=hashlib.sha256(body).hexdigest())
    return head.model_dump_json().encode() + b"\n" + body + b"\n"


def unpack(data: bytes, where: str) -> Backup:
    """Raises BackupDamaged where it is not what was written, UsageError for another format; both name `where`."""
    first, _, body = data.partition(b"\n")
    try:
        found = _Format.model_validate_json(first).akasha_backup
    except ValidationError:
        raise BackupDamaged(f"{where}: is no backup, or its beginning is damaged") from None
    if found != FORMAT:
        raise UsageError(f"{where}: format {found}; this release reads {FORMAT}")
    body = body.removesuffix(b"\n")
    try:
        head = _Head.model_validate_json(first)
        if hashlib.sha256(body).hexdigest() != head.sha256:
            raise BackupDamaged(f"{where}: its checksum is wrong: it was cut off, or changed")
        return Backup(head.created_at, head.version, Content.model_validate_json(body))
    except ValidationError as error:
        first_error = error.errors(include_url=False, include_input=False)[0]
        raise BackupDamaged(f"{where}: {'.'.join(map(str, first_error['loc']))}: {first_error['msg']}") from None
