"""Where a backup is kept: a file, or `store:NAME`, an object of the hot tier (tiers/keys.py)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from akasha_stream.errors import ObjectNotFound, UsageError
from akasha_stream.hot.durable import write_bytes
from akasha_stream.storage.tiers import StorageTiers
from akasha_stream.tiers.keys import backup_path
from akasha_stream.tiers.tiering import load_storage_settings

STORE = "store:"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)


def default_name(now: datetime | None = None) -> str:
    return f"akasha-{(now or datetime.now(UTC)).strftime('%Y%m%dT%H%M%SZ')}.backup.json"


@dataclass(frozen=True, slots=True)
class BackupPlace:
    """`name`: of an object of the hot tier; else `path`."""

    path: Path | None = None
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> BackupPlace:
        """Raises UsageError."""
        if not text.startswith(STORE):
            return cls(path=Path(text))
        name = text.removeprefix(STORE)
        if not _NAME.fullmatch(name) or name.endswith("."):
            raise UsageError(f"{text}: after store: comes a name of letters, digits, '.', '_' and '-'")
        return cls(name=name)

    def __str__(self) -> str:
        return str(self.path) if self.path is not None else f"{STORE}{self.name}"

    async def write(self, data: bytes) -> None:
        """Raises UsageError where there is something already; StorageError, OSError."""
        taken = UsageError(f"{self}: is there already; a backup is never written over, give it another name")
        if self.path is not None:
            if self.path.exists():
                raise taken
            if not self.path.parent.is_dir():
                raise UsageError(f"{self}: there is no folder {self.path.parent}")
            write_bytes(self.path, data)
            return
        settings = load_storage_settings()
        async with StorageTiers(settings) as tiers:
            hot, place = await tiers.open("hot"), settings.tier("hot")
            if not await hot.put_if_absent(place.bucket, backup_path(self.name, place.prefix), data):
                raise taken

    async def read(self) -> bytes:
        """Raises UsageError where there is none; StorageError."""
        if self.path is not None:
            try:
                return self.path.read_bytes()
            except OSError as error:
                raise UsageError(f"{self}: {error.strerror}") from None
        settings = load_storage_settings()
        async with StorageTiers(settings) as tiers:
            hot, place = await tiers.open("hot"), settings.tier("hot")
            try:
                return await hot.download(place.bucket, backup_path(self.name, place.prefix))
            except ObjectNotFound:
                raise UsageError(f"{self}: there is no such backup in {place.bucket}") from None
