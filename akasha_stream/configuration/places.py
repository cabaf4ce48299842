"""Which settings file is read, and where the shipped settings and topics are."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from akasha_stream.errors import SettingsError

FILE_NAME = "akasha-stream.yml"
STORAGE_FILE_NAME = "akasha-storage.yml"
_PACKAGE = Path(__file__).parent.parent


def shipped(folder: str) -> Path:
    """The folder `settings` or `topics` that came with the product: from the wheel, else from the checkout."""
    packaged = _PACKAGE / "_defaults" / folder
    return packaged if packaged.is_dir() else _PACKAGE.parent / folder


def settings_file(asked: Path | None, variables: Mapping[str, str]) -> Path:
    """The first that exists of: `asked` (--settings), $AKASHA_SETTINGS, ./settings/akasha-stream.yml,
    $XDG_CONFIG_HOME/akasha-stream/akasha-stream.yml, the shipped one.

    The first two must exist: SettingsError otherwise.
    """
    return _first(FILE_NAME, {"--settings": asked, "AKASHA_SETTINGS": variables.get("AKASHA_SETTINGS")}, variables)


def storage_file(asked: Path | None, variables: Mapping[str, str]) -> Path:
    """As settings_file, of akasha-storage.yml: `asked`, $AKASHA_STORAGE_SETTINGS, ./settings, …, the shipped one."""
    given = {"storage settings": asked, "AKASHA_STORAGE_SETTINGS": variables.get("AKASHA_STORAGE_SETTINGS")}
    return _first(STORAGE_FILE_NAME, given, variables)


def _first(file_name: str, asked: Mapping[str, Path | str | None], variables: Mapping[str, str]) -> Path:
    for name, given in asked.items():
        if given:
            path = Path(given).expanduser()
            if not path.is_file():
                raise SettingsError(f"{name}: {path}: {'is not a file' if path.exists() else 'no such file'}")
            return path
    here = Path("settings") / file_name
    if here.is_file():
        return here
    config_home = variables.get("XDG_CONFIG_HOME") or (f"{home}/.config" if (home := variables.get("HOME")) else "")
    if config_home and (personal := Path(config_home) / "akasha-stream" / file_name).is_file():
        return personal
    return shipped("settings") / file_name


def overlay_file(base: Path, environment: str, *, asked: bool) -> Path | None:
    """`<base>.<environment>.yml` beside the base file; None where there is none and nobody asked for it.

    Raises SettingsError when it was asked for (--env, AKASHA_ENV) and isn't there.
    """
    path = base.with_name(f"{base.stem}.{environment}{base.suffix}")
    if path.is_file():
        return path
    if not asked:
        return None
    known = sorted(
        other.name.removeprefix(f"{base.stem}.").removesuffix(base.suffix)
        for other in base.parent.glob(f"{base.stem}.*{base.suffix}")
    )
    close = get_close_matches(environment, known, n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known) or 'none'}"
    raise SettingsError(f"environment {environment!r}: there is no {path}{hint}")
