from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.cli.context import output, printable

HOSTILE = "a\x1b[31mb\x07\x9b1m\u202ec\x00"


def test_tables_are_80_columns_and_inert(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    output(json=False).table(("id", "content", "score"), [("[red]x[/red]", HOSTILE + "y" * 200, 0.5)], right=("score",))
    out = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
    assert "[red]x[/red]" in out
    assert not set(out) & set("\x1b\x07\x9b\u202e\x00")


def test_a_table_that_is_too_wide_loses_no_digit(capsys: pytest.CaptureFixture[str]) -> None:
    figures = [f"{10**9 + number}" for number in range(12)]
    for count in (7, 12):  # closer together; on two lines
        columns = [f"c{number}" for number in range(count)]
        output(json=False).table(columns, [figures[:count]], right=columns)
        lines = capsys.readouterr().out.splitlines()
        assert max(len(line.rstrip()) for line in lines) <= 80
        assert sum(character.isdigit() for line in lines[3:] for character in line) == 10 * count


def test_json_prints_one_object_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    out = output(json=True)
    out.line("hello")
    out.table(("a",), [("b",)])
    out.result({"content": HOSTILE, "ä": None})
    text = capsys.readouterr().out
    assert text.isascii()
    assert text.endswith("\n")
    assert json.loads(text) == {"content": HOSTILE, "ä": None}


def test_people_get_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    output(json=False).result({"a": 1})
    assert capsys.readouterr().out == ""


def test_notes_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output(json=True).note("careful")
    assert capsys.readouterr() == ("", "note: careful\n")


def test_lines_are_not_wrapped_and_not_coloured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    output(json=False).line("x" * 200 + " [bold]1[/bold]")
    assert capsys.readouterr().out == "x" * 200 + " [bold]1[/bold]\n"


@given(st.text())
def test_printable_leaves_no_control_character(text: str) -> None:
    assert all(character.isprintable() or character == "\n" or character.isspace() for character in printable(text))
    assert len(printable(text)) == len(text)
