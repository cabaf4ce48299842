"""Show and check the settings."""

from __future__ import annotations

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
    rows = []
    for section, keys in values.items():
        entries = [(section, key, value) for key, value in keys.items()] if isinstance(keys, dict) else []
        for path, value in [((group, key), value) for group, key, value in entries] or [((section,), keys)]:
            rows.append((".".join(path), _shown(value), found.places.get(path, "default")))
    out.table(("setting", "value", "from"), rows)
    out.result({"files": [str(file) for file in found.files], "settings": values})


@command.command()
def check(ctx: typer.Context, json: Json = False) -> None:
    """Validate the settings and the topic files; exit code 3 and one line if something is wrong."""
    from akasha_stream.topics.definition import definitions

    found = loaded(ctx)
    topics = definitions(found.settings)
    out = output(json)
    out.line(f"ok: {', '.join(str(file) for file in found.files)} ({found.settings.environment}); "
             f"{len(topics)} topic files")
    out.result({
        "ok": True,
        "environment": found.settings.environment,
        "files": [str(file) for file in found.files],
        "topics": [topic.name for topic in topics],
    })


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
