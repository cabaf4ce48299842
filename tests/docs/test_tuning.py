"""docs/tuning.md and the settings: nothing is named that there is not, and no setting is without a word."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel

from akasha_stream.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
TUNING = (DOCS / "tuning.md").read_text()
SECTIONS: dict[str, type[BaseModel]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}
EVERY = {f"{section}.{key}" for section, model in SECTIONS.items() for key in model.model_fields}


def named(text: str) -> set[str]:
    return set(re.findall(rf"`((?:{'|'.join(SECTIONS)})\.[a-z_0-9]+)", text))


def test_every_setting_that_tuning_names_exists() -> None:
    assert len(named(TUNING)) > 80
    assert named(TUNING) <= EVERY


def test_every_setting_is_described_somewhere() -> None:
    described = {name for page in DOCS.glob("*.md") for name in named(page.read_text())}
    assert EVERY - described == set()


def test_the_defaults_are_those_of_the_settings() -> None:
    rows = re.findall(r"^\| `(\w+)\.(\w+)` \| ([^|]+) \| ([^|]+) \|$", TUNING, re.MULTILINE)
    assert len(rows) > 60
    defaults = Settings()
    wrong = {
        f"{section}.{key}: {shown}"
        for section, key, shown, _ in rows
        if shown.strip() != str(getattr(getattr(defaults, section), key))
    }
    assert wrong == set()
    assert len({(section, key) for section, key, *_ in rows}) == len(rows)
    assert all(re.search(r"\w", cost) for *_, cost in rows)
