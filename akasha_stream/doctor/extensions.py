"""What is installed: DuckDB with its vss extension, and the embedder."""

from __future__ import annotations

import asyncio
import time

from akasha_stream.doctor.finding import Findings
from akasha_stream.errors import AkashaError, SettingsError
from akasha_stream.settings import Settings


async def check_extensions(found: Findings, settings: Settings) -> None:
    await asyncio.to_thread(_vss, found)
    await _embedder(found, settings)


def _vss(found: Findings) -> None:
    """Load it, and let it build and use an index."""
    import duckdb

    from akasha_stream.hot.hnsw import load_vss

    try:
        with duckdb.connect(":memory:") as con:
            load_vss(con)
            con.execute("CREATE TABLE t AS SELECT i, [i, 1, 2]::FLOAT[3] AS v FROM range(10) r(i)")
            con.execute("CREATE INDEX x ON t USING HNSW (v) WITH (metric = 'cosine')")
            con.execute("SELECT i FROM t ORDER BY array_cosine_distance(v, [9, 1, 2]::FLOAT[3]) LIMIT 1").fetchall()
    except (ImportError, duckdb.Error) as error:
        found.fail(
            "vss",
            f"DuckDB {duckdb.__version__}: {str(error).splitlines()[0]}",
            "install the packages that belong together: pip install --force-reinstall akasha-stream",
        )
    else:
        found.ok("vss", f"DuckDB {duckdb.__version__} builds and uses an HNSW index")


async def _embedder(found: Findings, settings: Settings) -> None:
    from akasha_stream.search.embedders import create_embedder

    kind = settings.embedder.kind
    try:
        embedder = await asyncio.to_thread(create_embedder, settings)
        if embedder is None:
            if kind == "none":
                found.ok("embedder", "none, as embedder.kind says: searches are by vector")
            else:
                found.warn(
                    "embedder",
                    "none: searches by text are not answered",
                    "pip install 'akasha-stream[onnx]', or set embedder.kind; none, where that is meant",
                )
            return
        started = time.perf_counter()
        await embedder.embed(["a text"])
        took_s = time.perf_counter() - started
    except SettingsError as error:
        found.fail("embedder", str(error), "correct the embedder's settings")
    except AkashaError as error:
        found.fail(
            "embedder", str(error), "see whether its server runs, and embedder.url and embedder.api_key are right"
        )
    else:
        found.ok("embedder", f"{embedder.model}, {embedder.dimensions} dimensions, first text in {took_s:.1f} s")
