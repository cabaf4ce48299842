"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

type Outcome = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`warn`: it works, and will not for long, or not as well as it could. `fail`: something does not work."""

    area: str
    check: str
    outcome: Outcome
    detail: str
    """What is."""
    advice: str = ""
    """What to do about it; never empty where the outcome is not ok."""


class Findings:
    """Those of one area, in the order of the checks."""

    def __init__(self, area: str) -> None:
        self.area = area
        self.found: list[Finding] = []

    def ok(self, check: str, detail: str) -> None:
        self.found.append(Finding(self.area, check, "ok", detail))

    def warn(self, check: str, detail: str, advice: str) -> None:
        self.found.append(Finding(self.area, check, "warn", detail, advice))

    def fail(self, check: str, detail: str, advice: str) -> None:
        self.found.append(Finding(self.area, check, "fail", detail, advice))
