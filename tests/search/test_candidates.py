from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.search.candidates import Query, smallest


@given(st.lists(st.one_of(st.integers(0, 12), st.just(0xFFFF)), max_size=60), st.integers(1, 70))
def test_smallest_takes_the_nearest_and_of_equal_ones_the_first(values: list[int], wanted: int) -> None:
    near = [i for i, v in enumerate(values) if v != 0xFFFF]
    reference = sorted(sorted(near, key=lambda i: (values[i], i))[:wanted])
    assert smallest(np.array(values, np.uint16), wanted).tolist() == reference


@pytest.mark.parametrize("scale", [1e-38, 1e-10, 1.0, 5e37])
def test_a_query_of_any_length_is_made_a_unit_vector(scale: float) -> None:
    query = Query.of(np.array([3, -4] + [0] * 6, np.float32) * np.float32(scale))
    assert query.vector[:2] == pytest.approx([0.6, -0.8], abs=1e-6)
    assert query.code.tolist() == [[0b1000_0000]]
