from __future__ import annotations

from pathlib import Path

import pytest

from akasha_stream.tiers.access import AccessRecord
from akasha_stream.tiers.keys import SegmentKey
from tests.tiers.segments import LOG

FIRST, SECOND = SegmentKey(LOG, 0, 10), SegmentKey(LOG, 10, 20, 3)


def test_reads_are_counted_by_time(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "access.json"
    record = AccessRecord(3, path)
    for at in (1.0, 2.0, 3.0, 4.0):
        record.searched([FIRST], at)
    record.searched([SECOND], 9.0)
    record.write()
    for each in (record, AccessRecord(3, path)):
        assert (each.since(FIRST, 0.0), each.since(FIRST, 3.0), each.since(FIRST, 5.0)) == (3, 2, 0), "the last three"
        assert (each.last(FIRST), each.total(FIRST)) == (4.0, 4)
        assert (each.since(SECOND, 0.0), each.last(SECOND)) == (1, 9.0)
    record.keep_only([SECOND])
    assert (record.last(FIRST), record.total(FIRST), record.last(SECOND)) == (None, 0, 9.0)


@pytest.mark.parametrize("damage", ["cut", "other format", "deleted", "no folder"])
def test_the_file_is_only_a_record(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "access.json"
    record = AccessRecord(3, path)
    record.searched([FIRST], 1.0)
    record.write()
    match damage:
        case "cut":
            path.write_bytes(path.read_bytes()[:20])
        case "other format":
            path.write_text(path.read_text().replace('"format":1', '"format":2'))
        case "deleted":
            path.unlink()
        case _:
            blocked = tmp_path / "file"
            blocked.write_text("")
            path = blocked / "access.json"
    again = AccessRecord(3, path)
    assert again.last(FIRST) is None
    again.searched([FIRST], 2.0)
    again.write()
    assert again.last(FIRST) == 2.0
