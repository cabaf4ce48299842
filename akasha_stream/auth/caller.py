"""Who asks, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from akasha_stream.auth.systems import EVERY, Systems


class Scope(StrEnum):
    READ = "read"
    """Search and look, at the caller's systems."""
    WRITE = "write"
    """Change what is stored of the caller's systems: publish dead letters again."""
    ADMIN = "admin"
    """Everything, that of the whole worker too (replays)."""
    METRICS = "metrics"
    """GET /metrics."""
    NODE = "node"
    """Ask as another worker of the cluster. No key has it: only the node secret gives it."""


GRANTED = (Scope.READ, Scope.WRITE, Scope.ADMIN, Scope.METRICS)
"""What a key or a token may have."""


@dataclass(frozen=True, slots=True)
class Caller:
    name: str
    scopes: frozenset[Scope] = frozenset()
    systems: Systems = field(default_factory=Systems)
    key_id: str | None = None
    """Of the API key; the key itself is kept nowhere."""

    @property
    def id(self) -> str:
        """One of its own, whatever others call themselves."""
        return f"name {self.name}" if self.key_id is None else f"key {self.key_id}"

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or (Scope.ADMIN in self.scopes and scope is not Scope.NODE)

    def sees(self, system: str) -> bool:
        return system in self.systems

    @property
    def sees_all(self) -> bool:
        return self.systems.all


NOBODY = Caller("nobody")
"""Without a key, where one is needed."""
ANYBODY = Caller("anybody", frozenset(Scope), EVERY)
"""Every caller of a worker that asks for no key."""
NODE = Caller("node", frozenset(Scope), EVERY)
"""Another worker. On whose behalf it asks, it says itself (cluster/peers.py)."""
