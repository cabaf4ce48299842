from __future__ import annotations

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.partitioner import partition_of


@given(st.text(min_size=1, max_size=64), st.integers(1, 64))
def test_our_partition_is_the_one_of_kafkas_default(system: str, partitions: int) -> None:
    try:
        key = system.encode()
    except UnicodeEncodeError:
        return
    numbers = list(range(partitions))
    assert partition_of(system, partitions) == DefaultPartitioner()(key, numbers, numbers)
