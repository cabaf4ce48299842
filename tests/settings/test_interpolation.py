from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.configuration.interpolation import InterpolationError, interpolate


@pytest.mark.parametrize(
    ("text", "variables", "wanted"),
    [
        ("plain", {}, "plain"),
        ("${A}", {"A": "1"}, "1"),
        ("${A:2}", {}, "2"),
        ("${A:2}", {"A": "1"}, "1"),
        ("${A:2}", {"A": ""}, "2"),
        ("${A:}", {}, ""),
        ("x${A:1}y${B:2}z", {"B": "b"}, "x1ybz"),
        ("${URL:redis://localhost:6379/0}", {}, "redis://localhost:6379/0"),
        ("$${A}", {"A": "1"}, "${A}"),
        ("$$${A}", {"A": "1"}, "$${A}"),
        ("$A costs 5$", {"A": "1"}, "$A costs 5$"),
        ("${A}", {"A": "${B}"}, "${B}"),  # what a variable holds is not looked into again
    ],
)
def test_references_are_replaced(text: str, variables: dict[str, str], wanted: str) -> None:
    assert interpolate(text, variables) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${A}", "environment variable A is not set"),
        ("${A", "no closing brace"),
        ("${}", "is no ${VAR}"),
        ("${1A:x}", "is no ${VAR}"),
        ("${A B}", "is no ${VAR}"),
        ("${A:${B}}", "no closing brace"),
    ],
)
def test_what_can_not_be_replaced_says_why(text: str, said: str) -> None:
    with pytest.raises(InterpolationError) as caught:
        interpolate(text, {})
    assert said in str(caught.value)


@given(st.text())
def test_text_without_references_stays(text: str) -> None:
    plain = text.replace("${", "")
    if "${" not in plain:
        assert interpolate(plain, {}) == plain


@given(st.text())
def test_escaped_text_comes_back(text: str) -> None:
    assert interpolate(text.replace("$", "").replace("{", "$${"), {}) == text.replace("$", "").replace("{", "${")
