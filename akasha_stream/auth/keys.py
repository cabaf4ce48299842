"""API keys: `ak_<id>_<secret>`, in a YAML file that has their hashes.

The secret is 256 random bits. So its plain SHA-256 is kept: nobody can try out 2^256 of them, and what a slow hash
(scrypt, Argon2) does for passwords that people choose would here only cost each request its tens of milliseconds.
The id finds the entry; it is no secret, and is what logs name.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Annotated, Literal, Self

import structlog
import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from akasha_stream.auth.caller import GRANTED, Caller, Scope
from akasha_stream.auth.systems import Systems
from akasha_stream.errors import SettingsError, UsageError
from akasha_stream.hot.durable import write_whole

log = structlog.get_logger(__name__)

PREFIX = "ak_"
LOOK_S = 1.0
"""How often a worker looks whether the file has changed: so long a revoked key may still be taken."""
_KEY = re.compile(r"ak_([0-9a-f]{12})_([0-9a-f]{64})", re.ASCII)


class KeyEntry(BaseModel):
    """One key, as the file has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    scopes: list[Literal["read", "write", "admin", "metrics"]] = Field(min_length=1)
    systems: list[str] = Field(min_length=1)
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None

    @field_validator("systems")
    @classmethod
    def _patterns(cls, value: list[str]) -> list[str]:
        try:
            Systems.of(value)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return value

    def expired(self, now: datetime) -> bool:
        return self.expires_at is not None and now >= self.expires_at


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: dict[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")], KeyEntry] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewKey:
    """`secret`: the whole key, which is shown once."""

    id: str
    secret: str
    entry: KeyEntry

    @classmethod
    def make(
        cls, name: str, scopes: Iterable[Scope], systems: Iterable[str], expires_at: datetime | None = None
    ) -> Self:
        """Raises UsageError."""
        key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
        try:
            entry = KeyEntry.model_validate(
                {
                    "name": name,
                    "sha256": _hash(secret),
                    "scopes": sorted({str(scope) for scope in scopes}),
                    "systems": Systems.of(systems).patterns(),
                    "created_at": datetime.now(UTC).replace(microsecond=0),
                    "expires_at": expires_at,
                }
            )
        except ValidationError as error:
            raise UsageError("; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors())) from error
        return cls(key_id, f"{PREFIX}{key_id}_{secret}", entry)


class KeysFile:
    """The file, for those who change it. Each change is whole or not there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, KeyEntry]:
        """By id. Raises SettingsError: unreadable, wrong, or writable by others."""
        try:
            with self.path.open("rb") as file:
                _check_mode(self.path, os.fstat(file.fileno()))
                values = yaml.safe_load(file)
        except OSError as error:
            raise SettingsError(
                f"auth.keys_file: can't read {self.path}: {error.strerror}; make it with: akasha-stream keys create"
            ) from error
        except yaml.YAMLError as error:
            # Not the parser's text: it quotes the line.
            mark = getattr(error, "problem_mark", None)
            where = "" if mark is None else f", line {mark.line + 1}"
            raise SettingsError(f"auth.keys_file: {self.path}{where}: is not valid YAML") from None
        except (RecursionError, ValueError, LookupError, AttributeError):  # as PyYAML's constructors raise
            raise SettingsError(f"auth.keys_file: {self.path}: is no file of keys") from None
        try:
            return _File.model_validate({} if values is None else values).keys
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise SettingsError(f"auth.keys_file: {self.path}: {place}: {first['msg']}") from None

    def add(self, key: NewKey) -> None:
        """Raises SettingsError, OSError."""
        self._write({**self._existing(), key.id: key.entry})

    def remove(self, key_id: str) -> KeyEntry:
        """Raises UsageError where there is none, SettingsError, OSError."""
        keys = self.read()
        entry = keys.pop(key_id, None)
        if entry is None:
            raise UsageError(f"{self.path} has no key {key_id[:40]!r}; see: akasha-stream keys list")
        self._write(keys)
        return entry

    def _existing(self) -> dict[str, KeyEntry]:
        return self.read() if self.path.exists() else {}

    def _write(self, keys: Mapping[str, KeyEntry]) -> None:
        values = {"keys": {i: each.model_dump(mode="json", exclude_none=True) for i, each in keys.items()}}
        text = "# API keys of akasha-stream, as hashes. Change it with: akasha-stream keys\n" + yaml.safe_dump(
            values, sort_keys=False, allow_unicode=True
        )

        def write(temporary: Path) -> None:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as f:
                f.write(text)

        write_whole(self.path, write)


class Keys:
    """The keys that count now, for the one who checks them: the file is read again when it changes.

    A file that has become wrong leaves the keys as they were, and is logged and shown (`error`): a slip of the hand
    must not lock everybody out. One that was removed leaves none.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = monotonic) -> None:
        """Raises SettingsError where the file is not right at the start."""
        self._file = KeysFile(path)
        self._clock = clock
        self._seen = self._state()
        self._keys = self._file.read()
        self._looked_s = clock()
        self.error: str | None = None

    def caller(self, key: str) -> Caller | None:
        """Whose key it is; None: nobody's, or it has expired."""
        self._look()
        match = _KEY.fullmatch(key)
        if match is None:
            return None
        entry = self._keys.get(match[1])
        if entry is None or not hmac.compare_digest(_hash(match[2]), entry.sha256) or entry.expired(datetime.now(UTC)):
            return None
        return Caller(entry.name, frozenset(map(Scope, entry.scopes)), Systems.of(entry.systems), match[1])

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked_s < LOOK_S:
            return
        self._looked_s = now
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        if state is None:
            self._keys, self.error = {}, f"{self._file.path} was removed: no key is taken"
            log.error("keys_file_removed", file=str(self._file.path))
            return
        try:
            self._keys, self.error = self._file.read(), None
        except SettingsError as error:
            self.error = f"{error}; the keys from before still count"
            log.error("keys_file_wrong", file=str(self._file.path), error=str(error))  # noqa: TRY400 - no traceback
        else:
            log.info("keys_file_read", file=str(self._file.path), keys=len(self._keys))

    def _state(self) -> tuple[int, ...] | None:
        with suppress(OSError):
            found = self._file.path.stat()
            return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode, found.st_uid
        return None


def granted(name: str) -> Scope:
    """Raises UsageError."""
    for scope in GRANTED:
        if scope == name:
            return scope
    raise UsageError(f"{name!r} is no scope; there are: {', '.join(GRANTED)}")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _check_mode(path: Path, found: os.stat_result) -> None:
    """Who can write the file can give himself a key. Reading it gives none: the hashes can't be turned back."""
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SettingsError(f"auth.keys_file: {path} can be written by others; run: chmod go-w {path}")
    if found.st_uid not in {0, os.geteuid()}:
        raise SettingsError(
            f"auth.keys_file: {path} belongs to user {found.st_uid}; it must be root's or this process's"
        )
