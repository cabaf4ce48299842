"""Reading sources, their checkpoints, and what they reject. No broker."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from akasha_stream.errors import SourceError, UsageError
from akasha_stream.publish.sources.embedding import Embedding
from akasha_stream.publish.sources.open import kind_of, open_source
from akasha_stream.publish.sources.session_buddy_snapshot import copy_database
from akasha_stream.publish.sources.source import Options, Source
from akasha_stream.settings import Limits
from tests.publish.events import make_events, vectors
from tests.publish.test_tables import table_of

OPTIONS = Options(limits=Limits(), chunk_rows=10)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def opened(path: Path | None, options: Options = OPTIONS, **given: Any) -> Source:
    return open_source(path, given.pop("kind", None), options, topic="t", log="cluster/id", **given)


def read(source: Source, acknowledge: int | None = None) -> list[str]:
    """Ids of all chunks; the first `acknowledge` chunks are acknowledged and saved (None: all)."""
    ids: list[str] = []
    try:
        for number, chunk in enumerate(source.chunks()):
            ids += [str(name) for name in chunk.rows.column("event_id").to_pylist()]
            if acknowledge is None or number < acknowledge:
                source.acknowledge(chunk)
        source.save("0:1")
    finally:
        source.close()
    return ids


def names(start: int, stop: int) -> list[str]:
    return [f"e{n}" for n in range(start, stop)]


def write_parquet(path: Path, count: int = 55, **given: Any) -> Path:
    pq.write_table(table_of(make_events(count)).rename_columns({"event_id": "id"}), path, row_group_size=20, **given)
    return path


class TestParquet:
    def test_all_rows_once_and_none_the_second_time(self, tmp_path: Path) -> None:
        path = write_parquet(tmp_path / "a.parquet")
        first = opened(path)
        assert first.total == 55
        assert read(first) == names(0, 55)
        second = opened(path)
        assert (second.total, second.skipped) == (0, 55)
        assert read(second) == []
        assert read(opened(path, restart=True)) == names(0, 55)

    @pytest.mark.parametrize("chunks", range(8))
    def test_a_resumed_run_goes_on_after_what_was_acknowledged(self, tmp_path: Path, chunks: int) -> None:
        path = write_parquet(tmp_path / "a.parquet")
        whole = read(opened(path, restart=True), acknowledge=chunks)
        assert whole == names(0, 55)
        # Row groups of 20, 20, 15 in chunks of 10 end at these rows.
        done = [0, 10, 20, 30, 40, 50, 55, 55][chunks]
        assert read(opened(path, replace(OPTIONS, chunk_rows=7))) == names(done, 55)

    def test_another_file_under_the_name_starts_anew(self, tmp_path: Path) -> None:
        path = write_parquet(tmp_path / "a.parquet")
        read(opened(path))
        write_parquet(path, count=30)
        source = opened(path)
        assert source.notes
        assert read(source) == names(0, 30)

    def test_another_topic_and_another_log_have_their_own_checkpoint(self, tmp_path: Path) -> None:
        path = write_parquet(tmp_path / "a.parquet")
        read(opened(path))
        for topic, log in (("t2", "cluster/id"), ("t", "cluster/other")):
            assert len(read(open_source(path, None, OPTIONS, topic=topic, log=log))) == 55

    def test_a_limit_reads_so_many_rows_that_are_new(self, tmp_path: Path) -> None:
        path = write_parquet(tmp_path / "a.parquet")
        limited = replace(OPTIONS, max_rows=25)
        assert read(opened(path, limited)) == names(0, 25)
        assert read(opened(path, limited)) == names(25, 50)
        assert read(opened(path, limited)) == names(50, 55)

    def test_bad_rows_are_counted_and_named(self, tmp_path: Path) -> None:
        table = table_of(make_events(30))
        contents = table.column("content").to_pylist()
        contents[3], contents[27] = None, "a\0"
        path = tmp_path / "a.parquet"
        pq.write_table(table.set_column(2, "content", pa.array(contents)), path)
        source = opened(path)
        assert len(read(source)) == 28
        assert source.bad.count == 2
        assert source.bad.places[0].startswith("row 3: content")
        assert source.bad.places[1].startswith("row 27: content")
        with pytest.raises(SourceError, match="row 3"):
            read(opened(path, replace(OPTIONS, strict=True), restart=True))

    def test_missing_columns_are_named_and_can_be_mapped(self, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        table = table_of(make_events(5)).rename_columns({"content": "body"}).drop_columns(["source_system"])
        pq.write_table(table, path)
        with pytest.raises(
            SourceError, match=r"no column source_system .*--source-system.*, content|content"
        ) as caught:
            opened(path)
        assert "source_system" in str(caught.value)
        options = replace(OPTIONS, columns={"content": "body"}, source_system="mine")
        source = opened(path, options)
        (chunk,) = source.chunks()
        assert set(chunk.rows.column("source_system").to_pylist()) == {"mine"}
        assert chunk.rows.column("content")[0].as_py() == "text 0"
        source.close()

    @pytest.mark.parametrize(
        "metadata",
        [
            pa.array([{"a": 1, "b": "x"}] * 3),
            pa.array([[("a", 1), ("b", 2)]] * 3, pa.map_(pa.string(), pa.int64())),
            pa.array(['{"a":1}'] * 3),
            pa.nulls(3),
        ],
    )
    def test_metadata_may_be_a_struct_a_map_or_json(self, tmp_path: Path, metadata: pa.Array[Any]) -> None:
        path = tmp_path / "a.parquet"
        pq.write_table(table_of(make_events(3)).set_column(4, "metadata", metadata), path)
        source = opened(path)
        (chunk,) = source.chunks()
        assert source.bad.count == 0
        found = json.loads(str(chunk.rows.column("metadata")[0].as_py()))
        assert found == {} if metadata.null_count else found["a"] == 1
        source.close()

    def test_a_time_without_zone_needs_one(self, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        naive = pa.array([datetime(2026, 7, 1, 12)] * 3, pa.timestamp("ns"))
        pq.write_table(table_of(make_events(3)).set_column(5, "created_at", naive), path)
        with pytest.raises(SourceError, match="--timezone"):
            read(opened(path))
        source = opened(path, replace(OPTIONS, timezone="Europe/Berlin"), restart=True)
        (chunk,) = source.chunks()
        assert chunk.rows.column("created_at")[0].as_py() == datetime(2026, 7, 1, 10, tzinfo=UTC)
        source.close()


def lines(count: int, start: int = 0) -> Iterator[str]:
    for event in make_events(count + start)[start:]:
        document = {
            "id": event.event_id,
            "source_system": event.source_system,
            "content": event.content,
            "embedding": [round(float(value), 6) for value in event.embedding],
            "created_at": event.created_at.isoformat(),
            "metadata": {"n": 1},
        }
        yield json.dumps(document) + "\n"


class TestJsonLines:
    def test_what_is_appended_is_published_by_the_next_run(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text("".join(lines(25)))
        assert read(opened(path)) == names(0, 25)
        assert read(opened(path)) == []
        with path.open("a") as file:
            file.writelines(lines(5, start=25))
        source = opened(path)
        assert source.skipped == 25
        assert read(source) == names(25, 30)

    def test_a_line_that_is_still_being_written_is_read_when_it_is_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        whole = list(lines(3))
        path.write_text(whole[0] + whole[1] + whole[2][:50])
        first = opened(path)
        assert read(first) == names(0, 2)
        assert first.bad.count == 1
        path.write_text("".join(whole))
        assert read(opened(path)) == names(2, 3)

    def test_the_last_line_needs_no_end(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text("".join(lines(3)).rstrip("\n"))
        assert read(opened(path)) == names(0, 3)
        assert read(opened(path)) == []

    def test_a_rewritten_file_starts_anew(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text("".join(lines(10)))
        read(opened(path))
        path.write_text("".join(lines(12, start=5)))
        source = opened(path)
        assert source.notes
        assert read(source) == names(5, 17)

    @pytest.mark.parametrize("chunks", range(4))
    def test_a_resumed_run_goes_on_after_what_was_acknowledged(self, tmp_path: Path, chunks: int) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text("".join(lines(25)))
        read(opened(path), acknowledge=chunks)
        assert read(opened(path)) == names([0, 10, 20, 25][chunks], 25)

    def test_bad_lines_are_counted_and_named_with_their_numbers(self, tmp_path: Path) -> None:
        good = list(lines(4))
        short = json.dumps({"id": "s", "source_system": "x", "content": "c", "embedding": [1, 2]}) + "\n"
        odd = json.dumps({**json.loads(good[0]), "created_at": "yesterday"}) + "\n"
        nothing = json.dumps({**json.loads(good[0]), "content": None}) + "\n"
        path = tmp_path / "a.jsonl"
        path.write_text(good[0] + "{broken\n" + "\n" + good[1] + short + "[1]\n" + odd + nothing + good[2] + good[3])
        source = opened(path)
        assert read(source) == names(0, 4)
        assert [place.split(":")[0] for place in source.bad.places] == [
            "line 2",
            "line 5",
            "line 6",
            "line 7",
            "line 8",
        ]
        assert source.bad.places[1].startswith("line 5: embedding has not")
        with pytest.raises(SourceError, match="line 2"):
            read(opened(path, replace(OPTIONS, strict=True), restart=True))

    def test_bad_lines_are_named_in_their_order_whoever_found_them(self, tmp_path: Path) -> None:
        """What the table's checks find stands between what reading found."""
        good = json.loads(next(iter(lines(1))))
        odd = [{**good, "source_system": ""}, [], {**good, "id": "x" * 300}, {**good, "embedding": None}, 7]
        path = tmp_path / "a.jsonl"
        path.write_text("".join(json.dumps(each) + "\n" for each in [*odd, good]) + "{half")
        source = opened(path)
        assert read(source) == ["e0"]
        assert [place.split(":")[0] for place in source.bad.places] == [f"line {n}" for n in (1, 2, 3, 5, 7)]
        assert source.without_embedding.places == ["line 4: no embedding, and no embedder"]
        with pytest.raises(SourceError, match=r"^line 1: source_system"):
            read(opened(path, replace(OPTIONS, strict=True), restart=True))

    def test_a_delete_may_have_a_time(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text('{"id": "a", "source_system": "s", "op": "delete", "created_at": "2026-07-01T10:00:00Z"}\n')
        assert read(opened(path)) == ["a"]

    def test_stdin_has_no_checkpoint(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Stdin:
            buffer = io.BytesIO("".join(lines(12)).encode())

        monkeypatch.setattr("sys.stdin", Stdin)
        source = opened(None)
        assert source.total is None
        assert read(source) == names(0, 12)
        with pytest.raises(UsageError):
            opened(None, kind="parquet")


def make_database(path: Path, rows: dict[str, list[tuple[str, str, bool]]]) -> None:
    """A small database like Session-Buddy's: (id, content, with embedding)."""
    with duckdb.connect(str(path)) as database:
        database.execute("""CREATE TABLE IF NOT EXISTS conversations_v2 (id TEXT PRIMARY KEY, content TEXT NOT NULL,
            embedding FLOAT[384], category TEXT, importance_score REAL DEFAULT 0.5, access_count INTEGER DEFAULT 0,
            project TEXT, timestamp TIMESTAMP, metadata VARCHAR)""")
        database.execute("""CREATE TABLE IF NOT EXISTS reflections_v2 (id VARCHAR PRIMARY KEY, content TEXT NOT NULL,
            embedding FLOAT[384], tags TEXT[], created_at TIMESTAMP, metadata JSON)""")
        for name, content, has in rows.get("conversations_v2", []):
            vector = vectors(1, seed=len(content))[0].tolist() if has else None
            database.execute(
                "INSERT OR REPLACE INTO conversations_v2 VALUES (?, ?, ?, 'facts', .5, 0, 'p', ?, ?)",
                [name, content, vector, "2026-07-01 12:00:00", '{"k": [1]}'],
            )
        for name, content, has in rows.get("reflections_v2", []):
            vector = vectors(1, seed=len(content))[0].tolist() if has else None
            database.execute(
                "INSERT OR REPLACE INTO reflections_v2 VALUES (?, ?, ?, ['a', 'b'], ?, NULL)",
                [name, content, vector, "2026-01-01 12:00:00"],
            )


def embedding(asked: list[str]) -> Embedding:
    def compute(texts: list[str]) -> Any:
        asked.extend(texts)
        return vectors(len(texts), seed=9)

    return Embedding("all-MiniLM-L6-v2", compute)


class TestEmbeddings:
    """Made where rows have none, by whichever source."""

    def test_of_lines(self, tmp_path: Path) -> None:
        whole = json.loads(next(iter(lines(1))))
        bare = {"id": "bare", "source_system": "s", "content": "words"}
        rows = [
            bare,
            whole,
            {**bare, "id": "other", "model": "another-model"},
            {**bare, "id": "silent", "content": " "},
            {**bare, "id": "gone", "op": "delete"},
            {**bare, "id": "named", "model": "all-MiniLM-L6-v2"},
        ]
        path = tmp_path / "a.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        asked: list[str] = []
        source = opened(path, replace(OPTIONS, embed=embedding(asked)))
        (chunk,) = source.chunks()
        source.close()
        assert chunk.rows.column("event_id").to_pylist() == ["bare", "e0", "gone", "named"]
        assert asked == ["words", "words"]
        assert source.embedded == 2
        made = np.array(chunk.rows.column("embedding").to_pylist()[0], np.float32)
        np.testing.assert_array_equal(made, vectors(2, seed=9)[0])
        given = np.array(chunk.rows.column("embedding").to_pylist()[1], np.float32)
        np.testing.assert_array_equal(given, np.array(whole["embedding"], np.float32))
        assert source.without_embedding.places == [
            "line 3: no embedding, and its model 'another-model' is not the embedder's, all-MiniLM-L6-v2",
            "line 4: no embedding, and no content to make one of",
        ]

    def test_of_no_row_that_is_refused_anyway(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text('{"source_system": "s", "content": "words"}\n')
        asked: list[str] = []
        source = opened(path, replace(OPTIONS, embed=embedding(asked)))
        assert read(source) == []
        assert source.bad.places == ["line 1: event_id is absent or null (field_missing)"]
        assert source.notes[0].endswith("or make one of the content with --content-ids")
        assert asked == []
        again = opened(path)
        assert (read(again), again.skipped, again.left_out_before) == ([], 1, 1)
        twice = [
            read(opened(path, replace(OPTIONS, embed=embedding([]), content_ids=True), restart=True))[0] for _ in "ab"
        ]
        assert twice[0] == twice[1]

    def test_of_parquet_without_the_column(self, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        pq.write_table(table_of(make_events(5)).drop_columns(["embedding"]), path)
        with pytest.raises(SourceError, match="no column embedding"):
            opened(path)
        asked: list[str] = []
        options = replace(OPTIONS, embed=embedding(asked), chunk_rows=2)
        assert read(opened(path, options)) == names(0, 5)
        assert len(asked) == 5

    def test_chunks_are_small_where_they_are_made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Else Ctrl-C would wait for thousands of texts."""
        monkeypatch.setattr("akasha_stream.publish.sources.source.EMBED_ROWS", 3)
        bare = [json.dumps({"id": str(n), "source_system": "s", "content": "words"}) for n in range(8)]
        path = tmp_path / "a.jsonl"
        path.write_text("\n".join(bare))
        source = opened(path, replace(OPTIONS, embed=embedding([])))
        assert [chunk.read for chunk in source.chunks()] == [3, 3, 2]
        source.close()
        pq.write_table(table_of(make_events(8)).drop_columns(["embedding"]), parquet := tmp_path / "a.parquet")
        source = opened(parquet, replace(OPTIONS, embed=embedding([])))
        assert [chunk.read for chunk in source.chunks()] == [3, 3, 2]
        source.close()


class TestSessionBuddy:
    options = replace(OPTIONS, timezone="Europe/Berlin")

    def open(self, path: Path, **changes: Any) -> Source:
        return opened(path, replace(self.options, **changes))

    def test_rows_become_events_and_times_become_instants(self, tmp_path: Path) -> None:
        path = tmp_path / "reflection.duckdb"
        make_database(path, {"conversations_v2": [("c1", "talk", True)], "reflections_v2": [("r1", "thought", True)]})
        source = self.open(path)
        rows = [row for chunk in source.chunks() for row in chunk.rows.to_pylist()]
        source.close()
        assert [row["event_id"] for row in rows] == ["c1", "r1"]
        assert rows[0]["source_system"] == "session-buddy"
        assert rows[0]["created_at"] == datetime(2026, 7, 1, 10, tzinfo=UTC)
        assert rows[1]["created_at"] == datetime(2026, 1, 1, 11, tzinfo=UTC)
        wanted = {"kind": "conversation", "category": "facts", "importance_score": 0.5, "project": "p"}
        assert json.loads(rows[0]["metadata"]) == {**wanted, "metadata": {"k": [1]}}
        assert json.loads(rows[1]["metadata"]) == {"kind": "reflection", "tags": ["a", "b"]}
        np.testing.assert_array_equal(np.array(rows[0]["embedding"], np.float32), vectors(1, seed=4)[0])

    def test_only_what_is_new_or_changed_comes_again(self, tmp_path: Path) -> None:
        path = tmp_path / "reflection.duckdb"
        rows = {"conversations_v2": [(f"c{n}", f"talk {n}", True) for n in range(25)]}
        make_database(path, rows)
        assert len(read(self.open(path))) == 25
        again = self.open(path)
        assert read(again) == []
        assert again.skipped == 25
        make_database(path, {"conversations_v2": [("c3", "changed", True), ("new", "new", True)]})
        with duckdb.connect(str(path)) as database:  # being read is no change
            database.execute("UPDATE conversations_v2 SET access_count = 9")
        assert sorted(read(self.open(path))) == ["c3", "new"]

    def test_what_was_not_acknowledged_comes_again(self, tmp_path: Path) -> None:
        path = tmp_path / "reflection.duckdb"
        make_database(path, {"conversations_v2": [(f"c{n:02}", f"talk {n}", True) for n in range(25)]})
        assert len(read(self.open(path), acknowledge=1)) == 25
        assert read(self.open(path)) == [f"c{n}" for n in range(10, 25)]

    def test_rows_without_embedding_are_counted_and_named_until_they_have_one(self, tmp_path: Path) -> None:
        path = tmp_path / "reflection.duckdb"
        make_database(path, {"conversations_v2": [("c1", "talk", True), ("c2", "silent", False)]})
        source = self.open(path)
        assert read(source) == ["c1"]
        assert source.without_embedding.places == ["conversations_v2 c2: no embedding, and no embedder"]
        again = self.open(path)
        assert read(again) == []
        assert again.without_embedding.count == 1
        make_database(path, {"conversations_v2": [("c2", "silent", True)]})
        assert read(self.open(path)) == ["c2"]

    def test_an_embedder_computes_what_is_missing(self, tmp_path: Path) -> None:
        path = tmp_path / "reflection.duckdb"
        make_database(path, {"conversations_v2": [("c1", "talk", True), ("c2", "silent", False)]})
        asked: list[str] = []
        embed = embedding(asked)
        assert read(self.open(path, embed=embed)) == ["c1", "c2"]
        assert asked == ["silent"]
        assert read(self.open(path, embed=embed)) == []

    def test_deletes_are_published_on_request(self, tmp_path: Path) -> None:
        path = tmp_path / "reflection.duckdb"
        make_database(path, {"conversations_v2": [("c1", "talk", True), ("c2", "more", True)]})
        read(self.open(path))
        with duckdb.connect(str(path)) as database:
            database.execute("DELETE FROM conversations_v2 WHERE id = 'c1'")
        noted = self.open(path)
        assert read(noted) == []
        assert "--deletes" in noted.notes[0]
        source = self.open(path, deletes=True)
        chunks = [chunk for chunk in source.chunks() if chunk.rows.num_rows]
        assert [(row["event_id"], row["op"]) for row in chunks[0].rows.to_pylist()] == [("c1", "delete")]
        source.acknowledge(chunks[0])
        source.save("")
        source.close()
        assert read(self.open(path, deletes=True)) == []

    def test_a_database_that_is_open_for_writing_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "reflection.duckdb"
        make_database(path, {"conversations_v2": [("c1", "talk", True)]})
        with duckdb.connect(str(path)) as writer:
            writer.execute(
                "INSERT INTO conversations_v2 (id, content, embedding) "
                "SELECT 'c2', 'x', embedding FROM conversations_v2"
            )
            assert sorted(read(self.open(path))) == ["c1", "c2"]

    def test_other_databases_and_files_are_refused(self, tmp_path: Path) -> None:
        other = tmp_path / "other.duckdb"
        with duckdb.connect(str(other)) as database:
            database.execute("CREATE TABLE things (id INTEGER)")
        with pytest.raises(SourceError, match="no Session-Buddy database"):
            self.open(other)
        broken = tmp_path / "broken.duckdb"
        broken.write_bytes(b"12345678DUCK" + bytes(5000))
        with pytest.raises(SourceError):
            self.open(broken)
        with pytest.raises(SourceError, match="no such zone"):
            self.open(other, timezone="Mars/Olympus")

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="nowhere"):
            copy_database(tmp_path / "nowhere", tmp_path)


def test_the_kind_is_told_by_content_then_suffix(tmp_path: Path) -> None:
    write_parquet(tmp_path / "odd.txt")
    make_database(tmp_path / "db.bin", {})
    (tmp_path / "lines.txt").write_text('{"id": 1}\n')
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "what.bin").write_bytes(b"\0\1\2")
    assert [kind_of(tmp_path / name) for name in ("odd.txt", "db.bin", "lines.txt", "empty.jsonl")] == [
        "parquet",
        "session-buddy",
        "jsonl",
        "jsonl",
    ]
    with pytest.raises(SourceError, match="--from"):
        kind_of(tmp_path / "what.bin")
    with pytest.raises(SourceError, match="nowhere"):
        kind_of(tmp_path / "nowhere")
