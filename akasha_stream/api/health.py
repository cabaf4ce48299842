"""What the health endpoints say. Whoever runs the parts reports on them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ComponentHealth:
    ok: bool
    detail: str = ""
    required: bool = True
    """False: its failure is shown and does not make the worker unready (Redis, say)."""


@dataclass(frozen=True, slots=True)
class Health:
    components: dict[str, ComponentHealth] = field(default_factory=dict)
    started: bool = True
    """Whether it was ready once."""

    @property
    def ready(self) -> bool:
        return all(c.ok for c in self.components.values() if c.required)


def shown(health: Health, *, details: bool) -> dict[str, Any]:
    """As an answer has it. Without `details`, which may name files, hosts and partitions: what is ok alone."""
    parts = {name: asdict(part) for name, part in health.components.items()}
    if not details:
        parts = {name: part | {"detail": ""} for name, part in parts.items()}
    return {"status": "ok" if health.ready else "unavailable", "components": parts}
