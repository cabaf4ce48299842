"""Faust's partition assignor, with our rule (sticky.py) for who gets what.

Faust's own also moves as few partitions as it can, but not which: a worker that comes back gets two of somebody, not
the two whose files it has, and builds them anew from the object store or the log, as does the one that it took them
from at the next restart. Members with either rule get on: the leader's decides, and the messages are the same.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from faust.assignor.client_assignment import ClientAssignment
from faust.assignor.partition_assignor import PartitionAssignor

from akasha_stream.stream.sticky import sticky


class StickyAssignor(PartitionAssignor):
    """What a member has files of travels in the place of Faust's standbys, which there are none of."""

    def had(self, topic: str, partitions: Collection[int]) -> None:
        """Said when this worker joins: the partitions that it had before it was restarted."""
        self._assignment = ClientAssignment(actives={}, standbys={topic: sorted(partitions)})

    def _perform_assignment(self, cluster: Any, member_metadata: Any) -> Any:
        known = {member: self._get_client_metadata(each) for member, each in member_metadata.items()}
        self._update_member_urls(known)
        topics = sorted({topic for each in member_metadata.values() for topic in each.subscription})
        assignments = {member: ClientAssignment(actives={}, standbys={}) for member in known}
        for topic in topics:
            given = sticky(
                {member: each.assignment.actives.get(topic, ()) for member, each in known.items()},
                {member: each.assignment.standbys.get(topic, ()) for member, each in known.items()},
                len(cluster.partitions_for_topic(topic) or ()),
            )
            for member, partitions in given.items():
                assignments[member].actives[topic] = partitions
        return self._protocol_assignments(
            assignments, {}, self._get_external_topic_distribution(assignments), dict.fromkeys(topics, 0)
        )
