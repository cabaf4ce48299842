"""Command lines of any words: a documented exit code, and no traceback."""

from __future__ import annotations

import random
import string
from pathlib import Path
from typing import Any

import pytest

from akasha_stream.cli import COMMANDS, exits
from tests.cli.running import Ran, run
from tests.cli.tree import LEAVES

CODES = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
ENDLESS = {"up", "demo", "worker", "mcp"}
"""They run until they are told to stop: only lines that are refused at once are asked of them."""
WAITING = {"watch_s", "follow"}
"""Options with which a command goes on for ever."""
WORDS = [
    *("", " ", "-", "--", "-1", "0", "1", "1e400", "nan", "-inf", "9" * 400, "0x10", "1.5", "٣", "1_0", "true", "null"),
    *(".", "folder/", "folder/x", "text.txt/x", "a/b", "a/b/c", "a/", "0:0", "0:-1", "x:y", "0:" + "9" * 30, "0:1:2"),
    *("missing.json", "folder", "bytes.bin", "list.json", "vector.json", "deep.json", "text.txt", "file:", "store:x"),
    *("2026-13-45", "2026-01-01", "9999-12-31T23:59:59Z", "2h", "-2h", "99999999999d", "1m", "now", "start", "end"),
    *(
        "key=value",
        "=",
        "a=",
        "=b",
        "a=b=c",
        "*",
        "s*",
        "\x1b[2J",
        "\n",
        "\r",
        "\u202e",
        "\ufeff",
        "é",
        "日本",
        "\udcff",
    ),
    *("%s", "{}", "${A}", "$(id)", "';--", "x" * 3_000, "--help", "--json", "--nope", "-k", "@file", "redis://:x@h"),
]
ENVIRONMENT = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "AKASHA_BROKER__REQUEST_TIMEOUT_S": "0.2",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "AKASHA_REDIS__ENABLED": "false",
    "AKASHA_HTTP__PORT": "1",
    "AKASHA_EMBEDDER__KIND": "none",
    **{f"AKASHA_{tier}_BACKEND": f"local-{tier.lower()}" for tier in ("HOT", "WARM", "COLD")},
}
"""No server is there, and the stores are folders: what comes so far as to ask for one, ends."""


def line(rng: random.Random, path: tuple[str, ...], command: Any) -> list[str]:
    """The command with some of its options, and with values of any kind."""
    arguments: list[str] = [*path]
    for parameter in command.params:
        if parameter.name in WAITING:
            continue
        positional = parameter.param_type_name == "argument"
        if rng.random() < (0.8 if positional else 0.15):
            if not positional:
                arguments.append(rng.choice(parameter.opts))
            if positional or not getattr(parameter, "is_flag", False):
                arguments += [_word(rng) for _ in range(2 if parameter.nargs == 2 else 1)]
    if rng.random() < 0.15:
        arguments.insert(rng.randrange(len(path), len(arguments) + 1), _word(rng))
    return [*arguments, "--nope"] if path[0] in ENDLESS else arguments


def _word(rng: random.Random) -> str:
    if rng.random() < 0.15:
        return "".join(rng.choices(string.printable, k=rng.randrange(12)))
    return rng.choice(WORDS)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "bytes.bin").write_bytes(bytes(range(256)))
    (tmp_path / "list.json").write_text("[1, 2, 3]")
    (tmp_path / "vector.json").write_text(str([0.1] * 384))
    (tmp_path / "deep.json").write_text("[" * 50_000)
    (tmp_path / "text.txt").write_text("text\n")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def check(ran: Ran, arguments: list[str]) -> None:
    assert ran.code in CODES, arguments
    assert "Traceback" not in ran.out + ran.err, arguments
    assert "a fault of akasha-stream" not in ran.err, (arguments, ran.err)
    if ran.code not in {exits.OK, exits.FAILED}:
        assert ran.err.strip(), arguments


@pytest.mark.parametrize("seed", range(2))
def test_any_line(seed: int, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(seed)
    for path, command in LEAVES.items():
        for _ in range(4):
            arguments = line(rng, path, command)
            check(run(capsys, *arguments), arguments)


def test_any_words(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(1)
    for _ in range(100):
        arguments = [_word(rng) for _ in range(rng.randrange(1, 4))]
        check(run(capsys, *arguments), arguments)


def test_every_command_is_tried() -> None:
    assert {path[0] for path in LEAVES} == set(COMMANDS)
    assert len(LEAVES) > 35


# ── what it found ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["replay", "compare", "text.txt"], exits.USAGE),
        (["replay", "compare", "x" * 3_000], exits.USAGE),
        (["get", "s", "e", "--url", "http://\x00"], exits.USAGE),
        (["get", "s", "e", "--url", "\udcff"], exits.USAGE),
        (["status", "--url", "http://127.0.0.1:99999"], exits.USAGE),
        (["keys", "revoke", "x", "--file", "deep.json"], exits.SETTINGS),
    ],
)
def test_one_line_says_what_is_wrong(
    arguments: list[str], code: int, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run(capsys, *arguments)
    check(ran, arguments)
    assert ran.code == code
    assert "error: " in ran.err
