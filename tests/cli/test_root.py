"""The root command: help, global options, exit codes, lazy imports."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from akasha_stream import __version__, errors
from akasha_stream.cli import COMMANDS, Entry, exits, main, root
from akasha_stream.errors import AkashaError
from tests.cli.running import run

ALL_ERRORS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, AkashaError)]


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    ran = run(capsys, "--help")
    assert ran.code == 0
    for name, entry in COMMANDS.items():
        assert f"  {name}" in ran.out
        assert entry.help.split()[0] in ran.out
    assert all(len(line) <= 100 for line in ran.out.splitlines())
    assert run(capsys).code == exits.USAGE  # no command: help, as for a wrong one
    assert run(capsys, "-h").out == ran.out


def test_help_is_quick_and_imports_no_command() -> None:
    """What would make it slow is not imported: 0.15 to 0.2 s where this was written."""
    code = (
        "import sys\nfrom akasha_stream.cli import COMMANDS, main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'rich.table', 'pydantic', 'pyarrow', 'duckdb', 'faust', 'aiokafka', 'numpy', 'structlog', 'yaml'}\n"
        "print(sorted(({e.module for e in COMMANDS.values()} | heavy) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version").out == f"akasha-stream {__version__}\n"


@pytest.mark.parametrize("arguments", [["confg"], ["--nope"], ["config", "nope"], ["config", "show", "extra"]])
def test_wrong_usage_is_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    ran = run(capsys, *arguments)
    assert ran.code == exits.USAGE
    assert "Usage: akasha-stream" in ran.err


def test_a_misspelt_command_gets_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean 'config'?" in run(capsys, "confg").err


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """`akasha-stream fail` raises `error`."""

    class Module:
        @staticmethod
        def command() -> None:
            raise error

    monkeypatch.setitem(COMMANDS, "fail", Entry("fail_module", "Fails."))
    monkeypatch.setattr(root, "import_module", lambda _name: Module)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.UsageError, 2),
        (errors.SettingsError, 3),
        (errors.BrokerError, 4),
        (errors.LogRecreated, 4),
        (errors.TopicDrift, 5),
        (errors.PublishError, 1),
        (errors.ServerStartError, 1),
        (errors.AkashaError, 1),
    ],
)
def test_errors_become_exit_codes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: type[AkashaError], code: int
) -> None:
    raising(kind("it went wrong"), monkeypatch)
    ran = run(capsys, "fail")
    assert (ran.code, ran.out) == (code, "")
    first, *rest = ran.err.splitlines()
    assert first == "error: it went wrong"
    assert [line.partition(":")[0] for line in rest] in ([], ["next"])


def test_every_error_has_an_exit_code() -> None:
    assert {exits.exit_code(kind.__new__(kind)) for kind in ALL_ERRORS} == {1, 2, 3, 4, 5}


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    raising(errors.SearchError("it went wrong"), monkeypatch)
    ran = run(capsys, "--debug", "fail")
    assert ran.code == 1
    assert "Traceback (most recent call last)" in ran.err
    assert ran.err.endswith("error: it went wrong\n")


def test_interrupted_is_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    raising(KeyboardInterrupt(), monkeypatch)
    assert run(capsys, "fail").code == 130
    monkeypatch.setattr(root, "run", lambda _arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 130


def test_the_next_step_is_a_command_that_there_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(errors.BrokerError("no broker"), monkeypatch)
    assert run(capsys, "fail").err == "error: no broker\nnext: akasha-stream doctor\n"
    steps = {exits.next_step(kind.__new__(kind)) for kind in ALL_ERRORS} - {None}
    assert len(steps) > 2
    for step in steps:
        assert step is not None
        program, name, *_ = step.split()
        assert program == "akasha-stream"
        assert name in COMMANDS


def test_a_bug_is_one_line_and_its_traceback_is_there_for_the_asking(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(ZeroDivisionError("bug"), monkeypatch)
    ran = run(capsys, "fail")
    assert ran.code == exits.FAILED
    assert "Traceback" not in ran.err
    assert ran.err.startswith("error: ZeroDivisionError: bug (a fault of akasha-stream")
    assert "--debug" in ran.err
    assert "Traceback (most recent call last)" in run(capsys, "--debug", "fail").err


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_module_of_each_command_has_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if find_spec(COMMANDS[name].module) is None:
        pytest.skip(f"{COMMANDS[name].module} is not written yet")
    ran = run(capsys, name, "--help")
    assert ran.code == 0, ran.err
    assert ran.out.startswith(f"Usage: akasha-stream {name} ")


def test_the_installed_command_runs() -> None:
    script = Path(sys.executable).with_name("akasha-stream")
    done = subprocess.run([script, "--version"], check=True, capture_output=True, text=True)
    assert done.stdout == f"akasha-stream {__version__}\n"
