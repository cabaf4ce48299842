"""The one partitioner: which partition a source system's events live in.

Kafka's own default for keyed records (Java's `murmur2_random`), so that any client whose default is
Kafka's agrees. Faust's table routing does not (it hashes the JSON form of the key) and is not used.
"""

from __future__ import annotations

from aiokafka.partitioner import murmur2


def partition_of(source_system: str, partitions: int) -> int:
    """Partition in [0, partitions) of a source system."""
    return partition_of_key(source_system.encode(), partitions)


def partition_of_key(key: bytes, partitions: int) -> int:
    """The same for a record's key as it is on the wire, UTF-8 or not."""
    return (int(murmur2(key)) & 0x7FFFFFFF) % partitions
