"""docs/compaction-and-forgetting.md has every step at which compaction and forgetting may end."""

from __future__ import annotations

import re
from pathlib import Path

from akasha_stream.tiers import clean_up, compact_group, forget

TEXT = (Path(__file__).parents[2] / "docs" / "compaction-and-forgetting.md").read_text()


def test_every_step_of_the_code_is_described() -> None:
    source = "".join(Path(module.__file__ or "").read_text() for module in (clean_up, compact_group, forget))
    steps = set(re.findall(r'passed\("([^"]+)"\)', source))
    assert len(steps) == 7
    assert {step for step in steps if f"`{step}`" not in TEXT} == set()
