"""API keys: made once, kept as hashes, read again when the file changes."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from akasha_stream.auth.caller import Scope
from akasha_stream.auth.keys import LOOK_S, Keys, KeysFile, NewKey, granted
from akasha_stream.errors import SettingsError, UsageError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> KeysFile:
    return KeysFile(tmp_path / "keys.yml")


def made(
    file: KeysFile, *scopes: Scope, systems: tuple[str, ...] = ("a",), expires_at: datetime | None = None
) -> NewKey:
    key = NewKey.make("someone", scopes or [Scope.READ], systems, expires_at)
    file.add(key)
    return key


def test_a_key_names_its_caller(file: KeysFile) -> None:
    key = made(file, Scope.READ, Scope.WRITE, systems=("a", "b-*"))
    caller = Keys(file.path).caller(key.secret)
    assert caller is not None
    assert (caller.name, caller.key_id, caller.scopes) == (
        "someone",
        key.id,
        frozenset({Scope.READ, Scope.WRITE}),
    )
    assert [caller.sees(each) for each in ("a", "b-1", "ab")] == [True, True, False]


def test_the_file_has_the_hash_alone_and_is_its_owners(file: KeysFile) -> None:
    key = made(file)
    text = file.path.read_text()
    secret = key.secret.rpartition("_")[2]
    assert secret not in text
    assert hashlib.sha256(secret.encode()).hexdigest() in text
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert len({made(file).secret for _ in range(20)}) == 20
    assert secret not in repr(Keys(file.path)._keys)


@pytest.mark.parametrize(
    "wrong",
    [
        "", "ak_", "ak_x_y", "{id}", "ak_{id}_", "ak_{id}_" + "0" * 64, "ak_" + "0" * 12 + "_{secret}",
        "ak_{id}_{secret}0", " ak_{id}_{secret}", "ak_{id}_{SECRET}", "AK_{id}_{secret}",
    ],
)  # fmt: skip
def test_what_is_no_key_names_nobody(file: KeysFile, wrong: str) -> None:
    key = made(file)
    secret = key.secret.rpartition("_")[2]
    text = wrong.replace("{id}", key.id).replace("{secret}", secret).replace("{SECRET}", secret.upper())
    assert Keys(file.path).caller(text) is None


def test_an_expired_key_names_nobody(file: KeysFile) -> None:
    now = datetime.now(UTC)
    over, good = made(file, expires_at=now - timedelta(seconds=1)), made(file, expires_at=now + timedelta(hours=1))
    keys = Keys(file.path)
    assert keys.caller(over.secret) is None
    assert keys.caller(good.secret) is not None


def test_what_is_not_there_can_t_be_revoked(file: KeysFile) -> None:
    made(file)
    with pytest.raises(UsageError, match="has no key 'x'; see: akasha-stream keys list"):
        file.remove("x")


def test_a_change_counts_after_a_moment(file: KeysFile) -> None:
    first, clock = made(file), Clock()
    keys = Keys(file.path, clock=clock)
    second = made(file)
    assert keys.caller(second.secret) is None  # not looked yet
    clock.now += LOOK_S
    assert keys.caller(second.secret) is not None
    file.remove(first.id)
    clock.now += LOOK_S
    assert keys.caller(first.secret) is None
    assert keys.caller(second.secret) is not None


def test_a_file_that_became_wrong_locks_nobody_out_and_says_so(file: KeysFile) -> None:
    key, clock = made(file), Clock()
    keys = Keys(file.path, clock=clock)
    file.path.write_text("keys: [")
    clock.now += LOOK_S
    assert keys.caller(key.secret) is not None
    assert keys.error is not None
    assert "line" in keys.error
    file.path.write_text("keys: {}")
    clock.now += LOOK_S
    assert keys.caller(key.secret) is None
    assert keys.error is None


def test_a_file_that_was_removed_leaves_no_key(file: KeysFile) -> None:
    key, clock = made(file), Clock()
    keys = Keys(file.path, clock=clock)
    file.path.unlink()
    clock.now += LOOK_S
    assert keys.caller(key.secret) is None
    assert "removed" in str(keys.error)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused(file: KeysFile, mode: int) -> None:
    made(file)
    file.path.chmod(mode)
    with pytest.raises(SettingsError, match="chmod go-w"):
        Keys(file.path)
    file.path.chmod(0o644)  # whoever reads the hashes has no key
    assert Keys(file.path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused(file: KeysFile, monkeypatch: pytest.MonkeyPatch) -> None:
    made(file)
    os.chown(file.path, 4242, 4242)
    monkeypatch.setattr(os, "geteuid", lambda: 4243)
    with pytest.raises(SettingsError, match="belongs to user 4242"):
        file.read()


ENTRY = f"name: n, sha256: '{'0' * 64}', scopes: [read], systems: [a], created_at: 2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("keys: [", "line 1"),
        ("keys: {xyz: {" + ENTRY + "}}", "keys.xyz"),
        ("keys: {'000000000000': {" + ENTRY.replace("read", "root") + "}}", "scopes.0"),
        ("keys: {'000000000000': {" + ENTRY.replace("[a]", "[]") + "}}", "systems"),
        ("keys: {'000000000000': {" + ENTRY.replace("[a]", "['a*b']") + "}}", "is no pattern"),
        ("keys: {'000000000000': {" + ENTRY + ", secret: hunter2}}", "secret"),
        ("key: {}", "key"),
        ("- a", "dictionary"),
    ],
)
def test_a_wrong_file_is_named_with_the_place(file: KeysFile, text: str, named: str) -> None:
    file.path.write_text(text)
    with pytest.raises(SettingsError, match=r"auth\.keys_file") as refused:
        Keys(file.path)
    assert named in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert "0" * 64 not in str(refused.value)


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="akasha-stream keys create"):
        Keys(tmp_path / "none.yml")


def test_what_can_be_granted() -> None:
    assert granted("read") is Scope.READ
    with pytest.raises(UsageError, match="is no scope; there are: read, write, admin, metrics"):
        granted("node")
