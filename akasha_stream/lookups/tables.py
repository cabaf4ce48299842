"""The keys of the Redis tables.

    {prefix}:{topic}:{partition}:upto                 string  the shard's watermark, or REBUILDING + a random word
    {prefix}:{topic}:{partition}:systems              set     source systems that have keys below
    {prefix}:{topic}:{partition}:ids:{system}         hash    event_id → position (decimal int64) of the live row
    {prefix}:{topic}:{partition}:counters:{system}    hash    counter → absolute value
    {prefix}:workers                                  set     ids of workers
    {prefix}:workers:{id}                             hash    a worker, expires three heartbeats after its last

- A shard's keys are written by the worker that owns its partition, and by no other: a rebuild may remove them all
  without touching another's. The partition stands in the key and not in the value, which saves a quarter of the
  memory; a reader knows it from the partitioner, and asks the other partitions only when that one has no answer.
- One hash a system, so that a batch costs one HSET a system and not one command an event (0.6 µs of client CPU
  an event, 1 µs of Redis'). 80 bytes of Redis memory an identity of 36 characters.
- Counters add up over partitions, but for those whose name begins with "last_": times, of which the latest counts.
- Counters are absolute values that the shard committed, never INCR, so that a batch may be written twice.
- `upto` says how much of the log the table holds: all of it below this position, possibly some above. It is written
  last in the transaction of each batch, by a script that compares it with what the writer left there. Where it is
  missing, or is no watermark, the table is not complete and a missing field means nothing.
- Everything that changes the tables is idempotent.

Redis Cluster is not supported: a batch is one MULTI over several keys. The tables have no expiry, so run Redis with
`noeviction` or a `volatile-*` policy: an eviction of a table's key can't be noticed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

REBUILDING = "rebuilding:"

ADVANCE = """
local found = redis.call('GET', KEYS[1]) or ''
if found == ARGV[1] then
  if ARGV[1] ~= ARGV[2] then redis.call('SET', KEYS[1], ARGV[2]) end
  return 1
end
redis.call('DEL', KEYS[1])
return 0
"""
"""KEYS: upto. ARGV: what the writer left there ('' for nothing), the new value. 1, or 0 where it found something else.

It then removes `upto`: the batch that stands before it in the transaction went into a table that is not the one
the writer knows (FLUSHALL, a restart, another writer), and readers must know that before anyone repairs it.
"""


class Watermark(NamedTuple):
    """How far a shard's table goes: everything below this position is in it."""

    table: str
    """Random id of the shard's store, without "/"; another one means that positions can't be compared."""
    position: int
    """The position that the shard's next event would have, at least."""

    def __str__(self) -> str:
        return f"{self.table}/{self.position}"

    @classmethod
    def parse(cls, text: object) -> Watermark | None:
        """None where there is nothing, or something else than a watermark. `text`: bytes as Redis gives them."""
        if not isinstance(text, bytes):
            return None
        table, separator, position = text.decode(errors="replace").rpartition("/")
        if not separator or not position.isdecimal() or not position.isascii():
            return None
        return cls(table, int(position))


@dataclass(frozen=True, slots=True)
class Keys:
    prefix: str
    topic: str

    def upto(self, partition: int) -> str:
        return f"{self.prefix}:{self.topic}:{partition}:upto"

    def systems(self, partition: int) -> str:
        return f"{self.prefix}:{self.topic}:{partition}:systems"

    def ids(self, partition: int, system: str) -> str:
        return f"{self.prefix}:{self.topic}:{partition}:ids:{system}"

    def counters(self, partition: int, system: str) -> str:
        return f"{self.prefix}:{self.topic}:{partition}:counters:{system}"

    def shard_pattern(self, partition: int) -> str:
        """Glob of all keys of a shard."""
        return re.sub(r"([*?\[\]\\])", r"\\\1", f"{self.prefix}:{self.topic}:{partition}:") + "*"

    def workers(self) -> str:
        return f"{self.prefix}:workers"

    def worker(self, worker_id: str) -> str:
        return f"{self.prefix}:workers:{worker_id}"
