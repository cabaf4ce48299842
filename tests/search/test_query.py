from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from akasha_stream.api.problems import invalid
from akasha_stream.search.query import SearchRequest


@pytest.mark.parametrize(
    ("request_", "place", "message"),
    [
        ({}, "body", "exactly one of vector, text and like is needed, and none was given"),
        ({"text": "x", "vector": [1.0]}, "body", "vector and text were given"),
        ({"text": "x", "k": 0}, "k", "greater than or equal to 1"),
        ({"text": "x", "threshold": 1.5}, "threshold", "less than or equal to 1"),
        ({"text": "x", "limit": 3}, "limit", "not permitted"),
        ({"text": "x", "fields": ["vector"]}, "fields.0", "Input should be"),
        ({"text": "x", "index": "fast"}, "index", "Input should be"),
        ({"text": "x", "filters": {"created_after": 17}}, "filters.created_after", "RFC 3339"),
        ({"text": "x", "filters": {"created_after": "2026-07-01T00:00:00"}}, "filters.created_after", "timezone"),
        (
            {
                "text": "x",
                "filters": {"created_after": "2026-07-02T00:00:00Z", "created_before": "2026-07-01T00:00:00Z"},
            },
            "filters",
            "created_after must lie before created_before",
        ),
        ({"text": "x", "filters": {"systems": []}}, "filters.systems", "at least 1 item"),
        ({"text": "x", "filters": {"metadata": {"a": {"like": "b"}}}}, "filters.metadata.a.like", "not permitted"),
        ({"text": "x", "filters": {"metadata": {"a": {}}}}, "filters.metadata.a", "needs at least one of"),
        ({"text": "x", "filters": {"metadata": {"a": {"gt": None}}}}, "filters.metadata.a", "gt may not be null"),
        ({"vector": [1.0, "x"]}, "vector.1", "valid number"),
        ({"like": {"source_system": "a"}}, "like.event_id", "required"),
    ],
)
def test_errors_name_the_place(request_: dict[str, Any], place: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SearchRequest.model_validate(request_)
    problem = invalid(caught.value)
    assert problem.status == 422
    assert any(e.place == place and message in e.message for e in problem.errors or []), problem.errors


def test_nan_is_no_number() -> None:
    with pytest.raises(ValidationError):
        SearchRequest(vector=[float("nan")])


def test_scalars_keep_their_kind() -> None:
    request = SearchRequest.model_validate_json(
        b'{"text":"x","filters":{"metadata":{"a":true,"b":1,"c":1.5,"d":"1","e":null,"f":{"in":[1,true,"1"]}}}}'
    )
    assert request.filters is not None
    values = request.filters.metadata
    assert [type(values[key]) for key in "abcde"] == [bool, int, float, str, type(None)]
    assert [type(v) for v in values["f"].in_] == [int, bool, str]  # type: ignore[union-attr]
    assert SearchRequest.model_validate_json(request.model_dump_json(by_alias=True, exclude_unset=True)) == request
