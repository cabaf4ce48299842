"""`--watch` without a cluster."""

from __future__ import annotations

import pytest

from akasha_stream.cli.context import Output, output
from akasha_stream.cli.watching import watch
from akasha_stream.errors import BrokerError, UsageError


async def test_what_is_away_for_a_while_is_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    answers: list[int | Exception] = [1, BrokerError("away"), 2, UsageError("over")]

    async def look() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def show(out: Output, found: int) -> None:
        out.result({"found": found})

    with pytest.raises(UsageError, match="over"):
        await watch(look, show, output(json=True), 0.0)
    captured = capsys.readouterr()
    assert captured.out == '{"found": 1}\n{"found": 2}\n'
    assert captured.err == "note: away\n"


async def test_the_first_look_must_succeed() -> None:
    async def look() -> int:
        raise BrokerError("away")

    with pytest.raises(BrokerError, match="away"):
        await watch(look, lambda _out, _found: None, output(json=True), 0.0)
