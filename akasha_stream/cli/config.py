"""Show and check the settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from akasha_stream.cli.context import loaded, output

command = typer.Typer(help=__doc__, no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")]


@command.command()
def show(ctx: typer.Context, json: Json = False) -> None:
    """Print every setting, its value and where it comes from. Secrets are masked."""
    from akasha_stream.configuration.show import redacted

    found = loaded(ctx)
    values = redacted(found.settings)
    out = output(json)
    rows = [(".".join(path), _shown(value), _place(found.places.get(path))) for path, value in _flat(values)]
    out.line(f"read: {', '.join(str(file) for file in found.files)}")
    out.table(("setting", "value", "from"), rows)
    out.result({"files": [str(file) for file in found.files], "settings": values})


@command.command()
def check(ctx: typer.Context, json: Json = False) -> None:
    """Validate the settings and the topic files; exit code 3 and one line if something is wrong."""
    from akasha_stream.topics.definition import definitions

    found = loaded(ctx)
    topics = definitions(found.settings)
    out = output(json)
    out.line(
        f"ok: {', '.join(str(file) for file in found.files)} ({found.settings.environment}); {len(topics)} topic files"
    )
    out.result(
        {
            "ok": True,
            "environment": found.settings.environment,
            "files": [str(file) for file in found.files],
            "topics": [topic.name for topic in topics],
        }
    )


def _flat(values: dict[str, object]) -> Iterator[tuple[tuple[str, ...], object]]:
    for section, keys in values.items():
        if isinstance(keys, dict):
            yield from (((section, key), value) for key, value in keys.items())
        else:
            yield (section,), keys


def _place(place: str | None) -> str:
    """`akasha-stream.yml:12`: the folder stands above the table already."""
    return "default" if place is None else place.rpartition("/")[2]


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
