"""What did not hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tests.chaos.model import Identity, Row

SHOWN = 3

type Kind = Literal["lost", "duplicated", "wrong"]


@dataclass(frozen=True, slots=True)
class Violation:
    kind: Kind
    text: str
    count: int = 1


class Found(list[Violation]):
    def add(self, kind: Kind, what: str, things: Iterable[object]) -> None:
        """One violation for all of these, if there are any."""
        each = list(things)
        if each:
            self.append(
                Violation(kind, f"{what}: {len(each)}, {[str(one)[:1_000] for one in each[:SHOWN]]}", len(each))
            )


def compare(
    found: Found, where: str, rows: Mapping[Identity, tuple[Any, str]], expected: Mapping[Identity, Row]
) -> None:
    wanted = {identity: ((row.place[0], *row.place[2:]), row.event.content) for identity, row in expected.items()}
    found.add("lost", f"{where}: missing", sorted(wanted.keys() - rows.keys()))
    found.add("wrong", f"{where}: deleted, forgotten or never there", sorted(rows.keys() - wanted.keys()))
    other = [(key, rows[key], wanted[key]) for key in sorted(wanted.keys() & rows.keys()) if rows[key] != wanted[key]]
    found.add("wrong", f"{where}: not what was written last", other)
