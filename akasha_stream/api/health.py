"""What the health endpoints say. Whoever runs the parts reports on them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ComponentHealth:
    ok: bool
    detail: str = ""
    required: bool = True
    """False: its failure is shown and does not make the worker unready (Redis, say)."""


@dataclass(frozen=True, slots=True)
class Health:
    components: dict[str, ComponentHealth] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        return all(c.ok for c in self.components.values() if c.required)
