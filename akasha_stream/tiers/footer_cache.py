"""Footers that were read before, in a local file. It can be deleted at any time: the next rebuild reads them again."""

from __future__ import annotations

from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from akasha_stream.hot.durable import write_bytes
from akasha_stream.storage.adapter import ObjectInfo
from akasha_stream.tiers.footer import SegmentFooter
from akasha_stream.tiers.stored_segment import StoredSegment

log = structlog.get_logger(__name__)

FORMAT = 1


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int
    etag: str
    footer: SegmentFooter


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    place: str
    segments: dict[str, _Entry]


class FooterCache:
    """Footers by path, good as long as the object has the size and etag that it had."""

    def __init__(self, path: Path, place: str) -> None:
        """`place`: which bucket of which store; a file about another one is not used."""
        self._path = path
        self._place = place
        self._entries = self._read()

    def footer(self, found: ObjectInfo) -> SegmentFooter | None:
        entry = self._entries.get(found.path)
        if entry is None or (entry.size, entry.etag) != (found.size, found.etag):
            return None
        return entry.footer

    def write(self, segments: tuple[StoredSegment, ...]) -> None:
        """Replace the file; one that can't be written is logged."""
        self._entries = {s.path: _Entry(size=s.size, etag=s.etag, footer=s.footer) for s in segments}
        text = _File(format=FORMAT, place=self._place, segments=self._entries).model_dump_json().encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self._path, text)
        except OSError as error:
            log.warning("catalog cache not written", path=str(self._path), error=str(error))

    def _read(self) -> dict[str, _Entry]:
        try:
            file = _File.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError):
            log.warning("catalog cache can't be read; footers are read from the store", path=str(self._path))
            return {}
        return file.segments if (file.format, file.place) == (FORMAT, self._place) else {}
