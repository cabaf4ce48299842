"""Anyone reads the buckets as they are: DuckDB and pyarrow over S3, with nothing of this product (docs/tiers.md)."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow.dataset as ds
import pytest
from pyarrow.fs import S3FileSystem

from akasha_stream.storage import StorageTiers
from akasha_stream.tiers.migrate import move
from akasha_stream.tiers.segment_store import SegmentStore
from tests.tiers.places import on_seaweedfs
from tests.tiers.segments import LOG, Change, spilled

if TYPE_CHECKING:
    from akasha_stream.embedded import SeaweedServer

DOCS = Path(__file__).parents[2] / "docs" / "tiers.md"


@pytest.fixture
def con(seaweedfs: SeaweedServer) -> Iterator[duckdb.DuckDBPyConnection]:
    spec = importlib.util.find_spec("duckdb_extension_httpfs")
    assert spec is not None
    folder = Path(next(iter(spec.submodule_search_locations or [])))
    host = seaweedfs.endpoint_url.removeprefix("http://")
    with duckdb.connect() as con:
        con.execute(f"LOAD '{folder}/extensions/v{duckdb.__version__}/httpfs.duckdb_extension'")
        con.execute(
            f"CREATE SECRET (TYPE s3, KEY_ID '{seaweedfs.access_key_id}', SECRET '{seaweedfs.secret_access_key}', "
            f"ENDPOINT '{host}', URL_STYLE 'path', USE_SSL false)"
        )
        yield con


async def test_the_query_of_the_docs_and_pyarrow_give_the_live_state(
    con: duckdb.DuckDBPyConnection, seaweedfs: SeaweedServer
) -> None:
    """While a segment is in two tiers, too."""
    settings = on_seaweedfs(seaweedfs)
    async with StorageTiers(settings) as tiers:
        store = SegmentStore(tiers)
        first = [Change(o, 0, "a", str(o), f"text {o}") for o in range(4)]
        second = [Change(10, 0, "a", "0", None), Change(11, 0, "a", "1", "changed"), Change(12, 0, "b", "1", "b")]
        await store.put(spilled(first, 0, 10))
        await store.put(spilled(second, 10, 20))
        await move(store, store.catalog.current(LOG)[0], "warm")
        hot, warm = (settings.tier(tier).bucket for tier in ("hot", "warm"))

    (query,) = re.findall(r"```sql\n(SELECT source_system.*?)```", DOCS.read_text(), re.DOTALL)
    query = query.replace("akasha-hot", hot).replace("akasha-warm", warm).replace("session-buddy-001", "a")
    found = con.execute(query).fetchall()
    assert sorted(row[:3] for row in found) == [("a", "1", "changed"), ("a", "2", "text 2"), ("a", "3", "text 3")]

    filesystem = S3FileSystem(
        endpoint_override=seaweedfs.endpoint_url,
        access_key=seaweedfs.access_key_id,
        secret_key=seaweedfs.secret_access_key,
    )
    table = ds.dataset(f"{warm}/akasha", filesystem=filesystem, format="parquet").to_table(
        columns=["event_id", "content"]
    )
    assert table.to_pydict() == {"event_id": ["0", "1", "2", "3"], "content": [f"text {o}" for o in range(4)]}
