"""The source systems that a caller may see."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from akasha_stream.errors import UsageError

SYSTEMS_HEADER = "akasha-systems"
"""On whose behalf another worker asks: a JSON list of patterns. It can only narrow."""
MOST_PATTERNS = 256
"""Of one caller: they have to fit into that header."""
MOST_CHARACTERS = 1_024
"""Of one pattern; no source system has a longer name (limits.source_system_bytes)."""


@dataclass(frozen=True, slots=True)
class Systems:
    """Exact names and prefixes. A name is compared as it is, byte for byte: no case and no Unicode form is folded, as
    ingest folds none either."""

    names: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    @classmethod
    def of(cls, patterns: Iterable[str]) -> Self:
        """`*`: all; `team-a-*`: those that begin so; anything else is a name. Raises UsageError."""
        names, prefixes = set[str](), set[str]()
        given = list(patterns)
        if len(given) > MOST_PATTERNS:
            raise UsageError(f"systems: {len(given)}; allowed: at most {MOST_PATTERNS}, use prefixes as in team-a-*")
        for pattern in given:
            if len(pattern) > MOST_CHARACTERS:
                raise UsageError(f"systems: {pattern[:40]!r}… has {len(pattern)} characters, {MOST_CHARACTERS} at most")
            if not pattern or "*" in pattern[:-1]:
                raise UsageError(
                    f"systems: {pattern!r} is no pattern; allowed: a name, a beginning (team-a-*), or * for all"
                )
            if pattern.endswith("*"):
                prefixes.add(pattern[:-1])
            else:
                names.add(pattern)
        return cls(frozenset(names), tuple(sorted(prefixes)))

    @property
    def all(self) -> bool:
        return "" in self.prefixes

    def __contains__(self, name: str) -> bool:
        return name in self.names or name.startswith(self.prefixes)

    def patterns(self) -> list[str]:
        """What `of` makes the same of."""
        return sorted([*self.names, *(f"{prefix}*" for prefix in self.prefixes)])


EVERY = Systems.of(["*"])
