"""Show and check the settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from akasha_stream.cli.context import Output, loaded, output
from akasha_stream.cli.figures import counted

if TYPE_CHECKING:
    from akasha_stream.configuration.documents import KeyPath
    from akasha_stream.configuration.load import Loaded
    from akasha_stream.configuration.storage import LoadedStorage
    from akasha_stream.storage.settings import StorageSettings

command = typer.Typer(help=__doc__, no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")]


@command.command()
def show(ctx: typer.Context, json: Json = False) -> None:
    """Print every setting, the object stores' too, its value and where it comes from. Secrets are masked.

    \b
    Examples:
      akasha-stream config show
      akasha-stream --env prod config show --json
    """
    from akasha_stream.configuration.show import redacted

    found, storage = _loaded(ctx)
    values, of_storage = redacted(found.settings), _as_in_the_file(storage.settings)
    out = output(json)
    for text in found.unused:
        out.note(text)
    _read(out, "read", [str(file) for file in (*found.files, *storage.files)])
    columns = ("setting", "value", "from")
    out.table(columns, [_row(path, value, found.places) for path, value in _flat(values)])
    unused = dict.fromkeys(storage.settings.unusable, "not used")
    rows = _flat({"storage": {**of_storage, **unused}})
    out.table(columns, [_row(path, value, storage.places) for path, value in rows])
    out.result(
        {
            "files": [str(file) for file in found.files],
            "settings": values,
            "storage_files": [str(file) for file in storage.files],
            "storage": of_storage,
            "unused": storage.settings.unusable,
        }
    )


@command.command()
def check(ctx: typer.Context, json: Json = False) -> None:
    """Validate the settings, those of the object stores, and the topic files; exit code 3 and one line if something is
    wrong.

    \b
    Examples:
      akasha-stream --env prod config check
    """
    from akasha_stream.auth.exposure import exposure_problem
    from akasha_stream.errors import SettingsError
    from akasha_stream.topics.definition import definitions

    found, storage = _loaded(ctx)
    topics = definitions(found.settings)
    if (problem := exposure_problem(found.settings)) is not None:
        raise SettingsError(": ".join(problem))
    if found.unused:
        raise SettingsError(found.unused[0])
    out = output(json)
    files = [str(file) for file in (*found.files, *storage.files)]
    _read(out, "ok", files)
    out.line(f"environment {found.settings.environment}, {counted(len(topics), 'topic file')}")
    out.result(
        {
            "ok": True,
            "environment": found.settings.environment,
            "files": files,
            "topics": [topic.name for topic in topics],
            "tiers": storage.settings.tiers,
        }
    )


def _read(out: Output, word: str, files: list[str]) -> None:
    for number, file in enumerate(files):
        out.line(f"{word + ':' if not number else '':<{len(word) + 1}} {file}")


def _loaded(ctx: typer.Context) -> tuple[Loaded, LoadedStorage]:
    from akasha_stream.configuration.storage import load_storage

    found = loaded(ctx)
    return found, load_storage(environment=found.settings.environment)


def _as_in_the_file(settings: StorageSettings) -> dict[str, object]:
    """What stands below `storage`: backends under their names, without secrets."""
    from akasha_stream.configuration.show import redacted
    from akasha_stream.storage.settings import CACHE_NAME

    values: dict[str, object] = {"default_backend": settings.default_backend, "tiers": dict(settings.tiers)}
    values |= {name: redacted(backend) for name, backend in settings.backends.items()}
    if settings.cache is not None:
        values[CACHE_NAME] = redacted(settings.cache)
    return values


def _flat(values: Mapping[str, object], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    for key, value in values.items():
        # Sections, and backends below `storage`; a setting may itself be a mapping.
        if isinstance(value, dict) and (not above or above == ("storage",)):
            yield from _flat(value, (*above, key))
        else:
            yield (*above, key), value


def _row(path: tuple[str, ...], value: object, places: Mapping[KeyPath, str]) -> tuple[str, str, str]:
    return ".".join(path), _shown(value), _place(places.get(path))


def _place(place: str | None) -> str:
    """`akasha-stream.yml:12`: the folder stands above the table already."""
    return "default" if place is None else place.rpartition("/")[2]


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
