"""Metadata of many rows: read all at once where nothing speaks against it."""

from __future__ import annotations

import subprocess
import sys

PLAIN_ROWS = """
import pyarrow as pa
from akasha_stream.events import metadata

def never(*_):
    raise AssertionError("one by one")

metadata._one_by_one = never
column = pa.array([f'{{"b": {row}, "a": "x"}}' for row in range(50)])
done = metadata.canonical_column(column, 8, never)
assert done.to_pylist() == [f'{{"a":"x","b":{row}}}' for row in range(50)]
"""


def test_plain_rows_are_read_at_once_whatever_stands_between_them() -> None:
    # What stands between them is drawn at the start: ten starts show a token that is taken for a number.
    for _ in range(10):
        subprocess.run([sys.executable, "-c", PLAIN_ROWS], check=True, timeout=60)
