"""Who gets which partition: evenly, and so that as little as possible has to be built anew."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def sticky(
    has: Mapping[str, Collection[int]], had: Mapping[str, Collection[int]], partitions: int
) -> dict[str, list[int]]:
    """Member → its partitions, sorted. No member gets two more than another.

    `has`: what each member has at the moment. `had`: what it has files of, from before it was restarted. A member keeps
    what it has, up to its share. What it has to give up is what another member has files of, if there is such; what is
    free goes to who has files of it, if that one has room.
    """
    everything = set(range(partitions))
    members = sorted(has)
    owner: dict[int, str] = {}
    for member in members:
        for partition in everything.intersection(has[member]):
            # Of two that claim it, one was away and has not heard of the other yet.
            owner.setdefault(partition, member)
    mine = {member: {p for p, owned in owner.items() if owned == member} for member in members}
    least, over = divmod(partitions, len(members))
    # Those that have most keep the odd ones.
    odd = set(sorted(members, key=lambda member: (-len(mine[member]), member))[:over])
    share = {member: least + (member in odd) for member in members}

    def wanted_elsewhere(partition: int, member: str) -> bool:
        return any(
            partition in had.get(other, ()) and len(mine[other]) < share[other] for other in members if other != member
        )

    for member in members:
        while len(mine[member]) > share[member]:
            given = min(mine[member], key=lambda p: (not wanted_elsewhere(p, member), p in had.get(member, ()), -p))
            mine[member].remove(given)
            for other in members:
                if given in had.get(other, ()) and other != member and len(mine[other]) < share[other]:
                    mine[other].add(given)
                    break
    free = everything.difference(*mine.values())
    for partition in sorted(free):
        with_room = [member for member in members if len(mine[member]) < share[member]]
        best = min(with_room, key=lambda m: (partition not in had.get(m, ()), len(mine[m]) - share[m], m))
        mine[best].add(partition)
    return {member: sorted(mine[member]) for member in members}
