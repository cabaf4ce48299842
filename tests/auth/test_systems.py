from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.auth.systems import EVERY, MOST_PATTERNS, Systems
from akasha_stream.errors import UsageError


@pytest.mark.parametrize(
    ("patterns", "name", "seen"),
    [
        (["a"], "a", True),
        (["a"], "ab", False),
        (["a"], "A", False),
        (["a"], "a ", False),
        (["team-*"], "team-a", True),
        (["team-*"], "team-", True),
        (["team-*"], "team", False),
        (["\u00e4"], "a\u0308", False),
        (["*"], "anything", True),
        (["a", "b*"], "bx", True),
        ([], "a", False),
    ],
)
def test_what_is_seen(patterns: list[str], name: str, seen: bool) -> None:
    assert (name in Systems.of(patterns)) is seen


@pytest.mark.parametrize("pattern", ["", "a*b", "**", "*a"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="is no pattern"):
        Systems.of([pattern])


def test_there_are_not_too_many_and_none_is_too_long() -> None:
    with pytest.raises(UsageError, match="1025 characters"):
        Systems.of(["x" * 1_025])
    with pytest.raises(UsageError, match="at most 256"):
        Systems.of(map(str, range(MOST_PATTERNS + 1)))


def test_all() -> None:
    assert EVERY.all
    assert not Systems.of(["a*"]).all
    assert not Systems().all


names = st.text(st.characters(exclude_characters="*"), min_size=1)


@given(st.sets(names | names.map("{}*".format)), names)
def test_patterns_make_the_same_again(patterns: set[str], name: str) -> None:
    made = Systems.of(patterns)
    assert Systems.of(made.patterns()) == made
    assert (name in made) == any(name == each or (each[-1] == "*" and name.startswith(each[:-1])) for each in patterns)
