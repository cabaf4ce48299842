"""The commands about tiers and segments: on folders, and on moto where classes, rules and restoring matter."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from akasha_stream.settings import Settings
from akasha_stream.storage import StorageSettings, StorageTiers
from akasha_stream.tiers.access import FILE, AccessRecord
from akasha_stream.tiers.migrate import move
from akasha_stream.tiers.segment_store import SegmentStore
from tests.behaviours.storage_fixtures import unique_bucket
from tests.cli.running import Ran, run
from tests.tiers.segments import LOG, Change, spilled

if TYPE_CHECKING:
    from tests.servers.moto import MotoServer

DAY = 86_400
OLD, NEW = (int((time.time() - days * DAY) * 1e6) for days in (40, 1))
FIRST = spilled([Change(o, 0, "old" if o else "both", str(o), "x", OLD) for o in range(5)], 0, 10)
SECOND = spilled([Change(10, 0, "both", "1", "y", NEW)], 10, 20)

Akasha = Callable[..., Ran]
type Fill = Callable[[Callable[[SegmentStore], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def storage_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "akasha-storage.yml"
    monkeypatch.setenv("AKASHA_STORAGE_SETTINGS", str(path))
    monkeypatch.setenv("AKASHA_COMPACTION__GRACE_S", "0")
    return path


def write(path: Path, backend: dict[str, Any]) -> None:
    tiers = {tier: f"own-{tier}" for tier in ("hot", "warm", "cold")}
    bucket = unique_bucket()
    backends = {name: {**backend, "tier": tier, "bucket_name": f"{bucket}-{tier}"} for tier, name in tiers.items()}
    path.write_text(yaml.safe_dump({"storage": {"tiers": tiers, **backends}}))


@pytest.fixture
def on_folders(storage_file: Path, tmp_path: Path) -> Path:
    """Root of the buckets."""
    write(storage_file, {"provider": "local", "root": str(tmp_path / "objects")})
    return tmp_path / "objects"


@pytest.fixture
def on_moto(storage_file: Path, moto: MotoServer) -> None:
    keys = {"access_key_id": "any", "secret_access_key": "any", "prefix": "akasha/", "create_bucket": True}
    write(storage_file, {"provider": "s3", "endpoint_url": moto.endpoint_url, **keys})


@pytest.fixture
def fill() -> Fill:
    """Two segments, and what the test does then."""

    def filled(more: Callable[[SegmentStore], Coroutine[Any, Any, None]]) -> None:
        async def go() -> None:
            async with StorageTiers(StorageSettings.load()) as tiers:
                store = SegmentStore(tiers)
                await store.put(FIRST)
                await store.put(SECOND)
                await more(store)

        asyncio.run(go())

    return filled


async def nothing_more(store: SegmentStore) -> None:
    pass


@pytest.fixture
def akasha(capsys: pytest.CaptureFixture[str]) -> Akasha:
    def call(*arguments: str, code: int = 0) -> Ran:
        ran = run(capsys, *arguments)
        assert ran.code == code, ran.err
        return ran

    return call


def test_list_by_everything(on_folders: Path, fill: Fill, akasha: Akasha) -> None:
    async def one_moves(store: SegmentStore) -> None:
        await move(store, store.catalog.current(LOG)[0], "warm")

    fill(one_moves)
    listed = akasha("tiers", "list", "--json").json
    assert listed["partial"] is False
    assert {g["tier"]: (g["segments"], g["rows"], g["notes"]) for g in listed["groups"]} == {
        "hot": (1, 1, ["1 to be deleted"]),
        "warm": (1, 5, []),
        "cold": (0, 0, []),
    }
    by_system = akasha("tiers", "list", "--by", "system", "--json").json["groups"]
    assert {(g["tier"], g["name"]): g["rows"] for g in by_system} == {
        ("hot", "both"): 1,
        ("warm", "both"): 1,
        ("warm", "old"): 4,
    }
    assert len(akasha("tiers", "list", "--by", "month", "--json").json["groups"]) == 2
    text = akasha("tiers", "list", "--by", "segment").out
    assert "3:0-10" in text
    assert "an old copy in hot" in " ".join(text.split())
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80


def test_a_list_that_is_partial_says_so(on_folders: Path, fill: Fill, akasha: Akasha) -> None:
    fill(nothing_more)
    (damaged,) = on_folders.glob(f"*-hot/**/{SECOND.footer.key.file}.parquet")
    damaged.write_bytes(damaged.read_bytes()[:-9])
    akasha("tiers", "list")
    (warm,) = on_folders.glob("*-warm")
    warm.rmdir()
    warm.write_text("no folder")
    ran = akasha("tiers", "list", "--json")
    assert ran.json["partial"] is True
    assert {g["tier"]: g["notes"] for g in ran.json["groups"]} == {
        "hot": ["1 DAMAGED"],
        "warm": ["UNREACHABLE: as it was last seen"],
        "cold": [],
    }
    assert "note: the list is partial: tier warm can't be read" in ran.err
    assert damaged.name in ran.err
    checked = akasha("segments", "check", "--json", code=1)
    assert len(checked.json["corrupt"]) == 1
    assert "2 problems, the first: tier warm" in checked.err


def test_show(on_folders: Path, fill: Fill, akasha: Akasha) -> None:
    fill(nothing_more)
    shown = akasha("tiers", "show", "3:0-10", "--json").json
    assert shown["systems"] == {"both": 1, "old": 4}
    assert (shown["tier"], shown["state"], shown["rows"], shown["searches"]) == ("hot", "available", 5, 0)
    assert shown["moves"] == ["to warm: old enough (40 d, limit 30 d)", "to cold: not by age"]
    assert akasha("tiers", "show", shown["path"], "--json").json == shown
    assert "to warm: in 29 d" in akasha("tiers", "show", "3:10-20").out
    assert "no segment '3:1-2'" in akasha("tiers", "show", "3:1-2", code=2).err


def test_what_the_policy_wants_moves_and_is_cleaned_up(
    on_folders: Path, fill: Fill, akasha: Akasha, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = on_folders.with_name("audit.jsonl")
    monkeypatch.setenv("AKASHA_AUTH__AUDIT_FILE", str(audit))
    fill(nothing_more)
    planned = akasha("tiers", "migrate", "--dry-run", "--json").json
    assert not audit.exists()
    assert [(m["segment"], m["from"], m["to"], m["state"]) for m in planned["moves"]] == [
        ("3:0-10", "hot", "warm", "would_move")
    ]
    assert planned["moves"][0]["reason"] == "newest event before 40 d, warm after 30 d"
    ran = akasha("tiers", "migrate")
    assert "The old copies are deleted after 15 min" in ran.out
    assert "no worker of this machine has counted searches" in ran.err
    assert akasha("tiers", "migrate").out == "Nothing to move.\n"
    waiting = akasha("tiers", "clean", "--json").json
    assert (waiting["deleted"], waiting["waiting"]) == ([], 1)
    monkeypatch.setenv("AKASHA_TIER_POLICY__GRACE_S", "0")
    for arguments in (("--dry-run",), ()):
        cleaned = akasha("tiers", "clean", "--json", *arguments).json
        assert [(d["what"], d["tier"], d["because"]) for d in cleaned["deleted"]] == [("copy", "hot", "is in warm")]
    assert akasha("tiers", "clean").out == "0 objects deleted (0 bytes of copies), 0 wait for their time.\n"
    hot, warm, _ = akasha("tiers", "list", "--json").json["groups"]
    assert (hot["segments"], warm["segments"]) == (1, 1)
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [(line["what"], line["result"]) for line in lines] == [
        *(("tiers migrate", "ok") for _ in range(2)),
        *(("tiers clean", "ok") for _ in range(3)),
    ]


def test_what_a_worker_has_counted_keeps_a_segment(on_folders: Path, fill: Fill, akasha: Akasha) -> None:
    fill(nothing_more)
    record = AccessRecord(10, Settings().hot.data_dir / "tiers" / FILE)
    for _ in range(10):
        record.searched([FIRST.footer.key])
    record.write()
    ran = akasha("tiers", "migrate", "--dry-run", "--json")
    assert ran.json["moves"] == []
    assert ran.err == ""
    assert akasha("tiers", "show", "3:0-10", "--json").json["searches"] == 10


def test_chosen_segments_move(on_folders: Path, fill: Fill, akasha: Akasha) -> None:
    fill(nothing_more)
    assert "say where to" in akasha("tiers", "migrate", "3:0-10", code=2).err
    assert "say what" in akasha("tiers", "migrate", "--to", "cold", code=2).err
    moved = akasha("tiers", "migrate", "--system", "old", "--to", "cold", "--json").json
    assert [(m["segment"], m["to"], m["state"]) for m in moved["moves"]] == [("3:0-10", "cold", "moved")]
    moved = akasha("tiers", "migrate", "--since", "2020-01-01", "--to", "warm", "--json").json
    assert [m["segment"] for m in moved["moves"]] == ["3:0-10", "3:10-20"]
    again = akasha("tiers", "migrate", "3:10-20", "--to", "warm", "--json", code=1)
    assert again.json["moves"][0]["state"] == "failed"
    assert "it is there already" in again.err


def test_archived_segments(on_moto: None, fill: Fill, akasha: Akasha) -> None:
    async def one_is_archived(store: SegmentStore) -> None:
        await move(store, store.catalog.current(LOG)[0], "cold")

    fill(one_is_archived)
    assert [g["archived"] for g in akasha("tiers", "list", "--json").json["groups"]] == [0, 0, 1]
    assert "say which" in akasha("tiers", "restore", code=2).err
    failed = akasha("tiers", "migrate", "3:0-10", "--to", "warm", code=1)
    assert "restore it first (akasha-stream tiers restore 3:0-10; 3 to 5 hours)" in failed.err
    for arguments in (("--status",), ("--all", "--dry-run")):
        (before,) = akasha("tiers", "restore", "--json", *arguments).json["segments"]
        assert (before["state"], before["readable"], before["takes"]) == ("archived", False, "3 to 5 hours")
    (asked,) = akasha("tiers", "restore", "--system", "old", "--days", "2", "--json").json["segments"]
    assert (asked["segment"], asked["readable"]) == ("3:0-10", True)  # moto is quick
    assert "restored until" in akasha("tiers", "restore", "--status").out
    assert "none of them is archived" in akasha("tiers", "restore", "3:10-20").err
    time.sleep(1.1)
    moved = akasha("tiers", "migrate", "3:0-10", "--to", "warm", "--json").json
    assert [m["state"] for m in moved["moves"]] == ["moved"]


def test_bucket_rules(on_moto: None, fill: Fill, akasha: Akasha) -> None:
    fill(nothing_more)
    rule = "remove the parts of uploads that were begun 7 days ago, under akasha/"
    assert akasha("tiers", "apply", "--dry-run").out.count(f"  + {rule}") == 3
    assert [b["added"] for b in akasha("tiers", "apply", "--json").json["buckets"]] == [[rule]] * 3
    again = akasha("tiers", "apply")
    assert again.out.count(f"  = {rule}") == 3
    assert again.out.endswith("The buckets are as they should be.\n")


def test_rules_of_folders_are_said_to_be_none(on_folders: Path, fill: Fill, akasha: Akasha) -> None:
    fill(nothing_more)
    assert "no rules: a folder does nothing by itself" in akasha("tiers", "apply").out


def test_compact(on_folders: Path, fill: Fill, akasha: Akasha, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AKASHA_COMPACTION__FAN_IN", "2")

    async def another(store: SegmentStore) -> None:
        await store.put(spilled([Change(20, 0, "both", "2", "z", NEW)], 20, 30))

    fill(another)
    planned = akasha("tiers", "compact", "--dry-run", "--json").json
    assert [len(g["old"]) for g in planned["groups"]] == [2]
    done = akasha("tiers", "compact", "--json").json
    (group,) = done["groups"]
    assert group["new"].endswith(".parquet")
    assert group["rows_left"] == 2
    time.sleep(0.01)
    cleaned = akasha("tiers", "clean", "--json").json
    assert len(done["deleted"]) + len(cleaned["deleted"]) == 2
    assert "Nothing to compact." in akasha("tiers", "compact").out
    checked = akasha("segments", "check", "--bodies", "--json").json
    assert [log["segments"] for log in checked["logs"]] == [2]


def test_segments_rebuilt_and_checked(on_folders: Path, fill: Fill, akasha: Akasha) -> None:
    fill(nothing_more)
    footers = Settings().hot.data_dir / "tiers" / "footers"
    first = akasha("rebuild", "catalog", "--json").json
    assert first["logs"] == [{"topic": LOG.topic, "partition": 3, "segments": 2, "start": 0, "end": 20}]
    (footers / "footers-hot.json").write_text("damaged")
    assert akasha("rebuild", "catalog", "--json").json == first
    assert akasha("segments", "check", "--bodies", "--json").json == first
    (file,) = on_folders.glob(f"*-hot/**/{SECOND.footer.key.file}.parquet")
    data = bytearray(file.read_bytes())
    data[300] ^= 1
    file.write_bytes(data)
    akasha("segments", "check")
    assert "was changed after it was written" in akasha("segments", "check", "--bodies", code=1).err
    (first_file,) = on_folders.glob(f"*-hot/**/{FIRST.footer.key.file}.parquet")
    third = spilled([], 30, 40)
    (first_file.parent / f"{third.footer.key.file}.parquet").write_bytes(third.data)
    (first_file.parent / "notes.txt").write_text("foreign")
    ran = akasha("segments", "check", "--json", code=1)
    assert ran.json["gaps"] == [f"{LOG.topic}/3: no segment has the offsets [20, 30)"]
    assert len(ran.json["foreign"]) == 1


def test_no_tiers_and_no_store(storage_file: Path, akasha: Akasha, tmp_path: Path) -> None:
    storage_file.write_text("storage: {redis-cache: {provider: redis}}")
    assert "no tier has a backend" in akasha("tiers", "list", code=3).err
    missing = {"provider": "local", "bucket_name": "own", "tier": "hot", "create_bucket": False, "root": str(tmp_path)}
    storage_file.write_text(yaml.safe_dump({"storage": {"tiers": {"hot": "own"}, "own": missing}}))
    assert "tier hot: own: bucket own can't be reached" in akasha("tiers", "list", code=1).err
