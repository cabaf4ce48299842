"""What a worker's health says of its partitions, beside ok or not."""

from __future__ import annotations

from akasha_stream.worker import partitions_here


def test_partitions_that_the_group_does_not_confirm_are_said_to_be() -> None:
    assert partitions_here([0, 1], lambda _: True) == "2 partitions"
    assert "is the broker away?" in partitions_here([0, 1], lambda partition: partition == 0)
    assert partitions_here([], lambda _: False) == "0 partitions"
