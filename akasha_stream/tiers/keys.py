"""The object key of a spilled segment, made from what it holds alone.

    <prefix>/<topic>/<incarnation>/<partition>/<start>-<end>.parquet        what a spill makes
    <prefix>/<topic>/<incarnation>/<partition>/<start>-<end>.g1.parquet     the same range, rewritten
    <prefix>/<topic>/<incarnation>/<partition>/<end>.state                  windows and counters as of `end`
    <prefix>/<topic>/<incarnation>/<partition>/<start>-<end>.stub           what is known of an archived segment

Beside the topics: the ledger (forgotten.py), and backups:

    <prefix>/_backups/<name>

Two workers that spill the same offsets of the same log arrive at the same key, so a conditional put lets one of them
win. Offsets have 20 digits: keys sort in log order. `end` is the offset after the last one (a next-offset): ranges tile
the log though it has gaps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from akasha_stream.hot.position import MAX_OFFSET
from akasha_stream.incarnation import Incarnation

SUFFIX = ".parquet"
STATE_SUFFIX = ".state"
STUB_SUFFIX = ".stub"
BACKUPS = "_backups"

_FILE = re.compile(r"(?P<start>\d{20})-(?P<end>\d{20})(\.g(?P<generation>[1-9]\d{0,8}))?\.(parquet|stub)", re.ASCII)
_STATE = re.compile(r"/(?P<end>\d{20})\.state$", re.ASCII)
_BACKUP = re.compile(rf"(^|/){BACKUPS}/[^/]+$")
_PARTITION = re.compile(r"0|[1-9]\d{0,9}", re.ASCII)
_UNSAFE = re.compile(rb"[^A-Za-z0-9_.-]")
_ESCAPED = re.compile(rb"~([0-9A-F]{2})")
_UNKNOWN = "~"


def escape(text: str) -> str:
    """Any text as one segment of a path that every provider takes as it is; `unescape` brings it back.

    `~2F` for a slash: `%2F` is decoded once too often by some servers, and `=` makes DuckDB see a hive partition.
    """
    escaped = _UNSAFE.sub(lambda match: b"~%02X" % match[0][0], text.encode())
    if escaped.endswith(b"."):  # Azure drops a dot at the end; "." and ".." are folders
        escaped = escaped[:-1] + b"~2E"
    return escaped.decode()


def unescape(segment: str) -> str:
    """Raises UnicodeDecodeError where no text was escaped like this."""
    return _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), segment.encode()).decode()


@dataclass(frozen=True, slots=True)
class LogId:
    """One partition of one life of a topic: offsets are comparable within it."""

    topic: str
    incarnation: Incarnation
    partition: int

    def __post_init__(self) -> None:
        if not self.topic or "" in (self.incarnation.cluster_id, self.incarnation.topic_id):
            raise ValueError("a topic, a cluster id and a topic id are not empty; an unknown id is None")
        if self.partition < 0:
            raise ValueError(f"partition {self.partition} is negative")

    def folder(self, prefix: str = "") -> str:
        """With the slash at its end."""
        ids = (self.incarnation.cluster_id, self.incarnation.topic_id)
        incarnation = ".".join(_UNKNOWN if known is None else escape(known).replace(".", "~2E") for known in ids)
        return f"{_with_slash(prefix)}{escape(self.topic)}/{incarnation}/{self.partition}/"


@dataclass(frozen=True, slots=True)
class SegmentKey:
    """A segment: the offsets [start, end) of a log. A rewritten one (compacted, forgotten) has a later generation."""

    log: LogId
    start: int
    end: int
    generation: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= MAX_OFFSET + 1:
            raise ValueError(f"[{self.start}, {self.end}) is no range of offsets below 2^40")
        if not 0 <= self.generation < 10**9:
            raise ValueError(f"generation {self.generation} is not in [0, 10^9)")

    @property
    def file(self) -> str:
        """The path's last part, without its suffix."""
        rewritten = f".g{self.generation}" if self.generation else ""
        return f"{self.start:020d}-{self.end:020d}{rewritten}"

    @property
    def short(self) -> str:
        """For people and command lines: partition:start-end, and the generation. One topic's logs may share it."""
        rewritten = f".g{self.generation}" if self.generation else ""
        return f"{self.log.partition}:{self.start}-{self.end}{rewritten}"

    def path(self, prefix: str = "") -> str:
        return f"{self.log.folder(prefix)}{self.file}{SUFFIX}"

    def stub_path(self, prefix: str = "") -> str:
        """Where the stub of an archived segment is (tiers/stub.py)."""
        return f"{self.log.folder(prefix)}{self.file}{STUB_SUFFIX}"

    @classmethod
    def parse(cls, path: str, prefix: str = "") -> Self | None:
        """The segment that is stored under `path`; None where the path is not one that `path()` makes."""
        key = cls._parse(path, prefix)
        # One segment, one path: what unescapes to the same is not ours.
        return key if key is not None and key.path(prefix) == path else None

    @classmethod
    def parse_stub(cls, path: str, prefix: str = "") -> Self | None:
        """The same of a `stub_path()`."""
        key = cls._parse(path, prefix)
        return key if key is not None and key.stub_path(prefix) == path else None

    @classmethod
    def _parse(cls, path: str, prefix: str) -> Self | None:
        prefix = _with_slash(prefix)
        parts = path.removeprefix(prefix).split("/")
        if not path.startswith(prefix) or len(parts) != 4:
            return None
        topic, incarnation, partition, file = parts
        ids = incarnation.split(".")
        offsets = _FILE.fullmatch(file)
        if offsets is None or len(ids) != 2 or not _PARTITION.fullmatch(partition):
            return None
        try:
            cluster_id, topic_id = (None if known == _UNKNOWN else unescape(known) for known in ids)
            log = LogId(unescape(topic), Incarnation(cluster_id, topic_id), int(partition))
            return cls(log, int(offsets["start"]), int(offsets["end"]), int(offsets["generation"] or 0))
        except ValueError:  # UnicodeDecodeError is one
            return None


def state_path(log: LogId, end: int, prefix: str = "") -> str:
    """Where the windows and counters as of offset `end` are kept."""
    return f"{log.folder(prefix)}{end:020d}{STATE_SUFFIX}"


def parse_state(path: str) -> int | None:
    """The offset that a state_path() is of; None where the path is none."""
    found = _STATE.search(path)
    return None if found is None else int(found["end"])


def is_state(path: str) -> bool:
    return parse_state(path) is not None


def backup_path(name: str, prefix: str = "") -> str:
    """Where a backup is kept (akasha_stream/backup)."""
    return f"{_with_slash(prefix)}{BACKUPS}/{name}"


def is_backup(path: str) -> bool:
    return _BACKUP.search(path) is not None


def _with_slash(prefix: str) -> str:
    return f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
