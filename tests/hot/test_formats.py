"""What a release has written, later ones open."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import duckdb
import pytest

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.hot.schema import FORMAT
from tests.hot.formats import DATA, EXPECTED, SEAL_ROWS, archive, expected
from tests.hot.log import Event, Log, Message, OneShard, live, settings_for


def unpacked(number: int, folder: Path) -> dict[str, object]:
    with tarfile.open(archive(number)) as tar:
        tar.extractall(folder, filter="data")
    found: dict[str, object] = json.loads((folder / EXPECTED).read_text())
    return found


def test_there_is_an_archive_of_the_format_of_now() -> None:
    assert archive(FORMAT).exists(), "run python -m tests.hot.formats"


@pytest.mark.parametrize("number", sorted(int(path.name.split("-")[1].split(".")[0]) for path in DATA.glob("format-*")))
def test_a_data_directory_that_an_earlier_release_wrote_is_opened_and_goes_on(tmp_path: Path, number: int) -> None:
    was = unpacked(number, tmp_path)
    with OneShard(settings_for(tmp_path, seal_rows=SEAL_ROWS, build_indexes=True)) as one:
        assert json.loads(json.dumps(expected(one.shard))) == was
        assert any(segment.index is not None for segment in one.shard.segments)
        before = set(live(one.shard))
        offset = one.shard.next_offset
        later = Log.of([Message(())] * offset + [Message((Event("new", "1", content="x", vector=1),))])
        later.apply(one.shard)
        assert set(live(one.shard)) == before | {("new", "1")}
        one.shard.seal()
        one.sealed()
        one.reopen()
        assert set(live(one.shard)) == before | {("new", "1")}


def test_a_format_that_is_not_known_is_refused_by_its_number(tmp_path: Path) -> None:
    unpacked(FORMAT, tmp_path)
    (youngest,) = (tmp_path / "topic" / "00000").glob("*.growing.duckdb")
    with duckdb.connect(str(youngest)) as con:
        con.execute("UPDATE segment SET format = 99")
    with pytest.raises(SegmentCorrupt, match=f"format 99, this release reads {FORMAT}"):
        OneShard(settings_for(tmp_path, seal_rows=SEAL_ROWS))
