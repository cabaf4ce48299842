"""Session-Buddy's own package creates a database, which is published. Needs uv and a package registry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.publish.events import decode, read_records
from tests.publish.session_buddy_make import vector
from tests.publish.test_command import Command
from tests.servers.availability import unavailable

if TYPE_CHECKING:
    from akasha_stream.embedded import Broker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ZONE = "America/New_York"


def make(path: Path, how: str, first: int, last: int, duckdb: str) -> dict[str, str]:
    """{id: text} of what Session-Buddy stored, in a process whose wall clock is New York's."""
    uv = shutil.which("uv")
    if uv is None:
        unavailable("no uv to install Session-Buddy with")
    packages = ["--with", "session-buddy==0.23.*", "--with", duckdb]
    run = [uv, "run", "--quiet", "--no-project", "--isolated", "--python", sys.executable, *packages, "python"]
    script = Path(__file__).with_name("session_buddy_make.py")
    arguments = [str(script), str(path), how, str(first), str(last)]
    environment = {**os.environ, "TZ": ZONE, "HOME": str(path.parent)}
    if "UV_CACHE_DIR" not in environment:
        environment["UV_CACHE_DIR"] = str(Path.home() / ".cache" / "uv")
    done = subprocess.run([*run, *arguments], capture_output=True, text=True, timeout=500, check=False, env=environment)
    if done.returncode and "failed to fetch" in done.stderr.lower():
        unavailable(f"no package registry: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    ids: dict[str, str] = json.loads(done.stdout.strip().splitlines()[-1])
    return ids


@pytest.mark.parametrize(
    ("duckdb", "how"),
    [
        ("duckdb<2", "memory"),
        ("duckdb>=2", "adapter"),
        pytest.param("duckdb<2", "adapter", marks=pytest.mark.long),
        pytest.param("duckdb>=2", "memory", marks=pytest.mark.long),
    ],
)
async def test_a_real_database_is_published_and_then_only_what_is_new(
    tansu: Broker, tansu_topic: str, tmp_path: Path, how: str, duckdb: str
) -> None:
    """duckdb>=2 is what Session-Buddy 0.23 installs by itself; its files can't be opened by our DuckDB 1.5."""
    path = tmp_path / "reflection.duckdb"
    command = Command(tansu, tansu_topic, tmp_path)
    texts = make(path, how, 0, 10, duckdb)
    silent = {name for name, text in texts.items() if "silent" in text}
    assert len(silent) == 2
    arguments = (path, "--timezone", ZONE, "--source-system", "laptop", "--no-embed")
    first = await command.result(*arguments)
    assert (first["published"], first["without_embedding"], first["bad_rows"]) == (len(texts) - 2, 2, 0)
    assert {place.split()[1].rstrip(":") for place in first["without_embedding_places"]} == silent

    again = await command.result(*arguments)
    assert (again["published"], again["skipped"], again["without_embedding"]) == (0, len(texts) - 2, 2)

    more = make(path, how, 10, 14, duckdb)
    third = await command.result(*arguments)
    assert (third["published"], third["skipped"]) == (len(more), len(texts) - 2)

    decoded = decode(await read_records(tansu.bootstrap_servers, tansu_topic))
    assert not decoded.dead
    batch = decoded.batch
    wanted = {name: text for name, text in {**texts, **more}.items() if "silent" not in text}
    assert dict(zip(batch.event_id.to_pylist(), batch.content.to_pylist(), strict=True)) == wanted
    assert set(batch.source_system.to_pylist()) == {"laptop"}
    for text, embedding in zip(batch.content.to_pylist(), batch.embedding, strict=True):
        np.testing.assert_array_equal(embedding, np.array(vector(str(text)), np.float32))
    projects = {json.loads(str(metadata)).get("project") for metadata in batch.metadata.to_pylist()}
    assert projects == ({"alpha", "beta"} if how == "adapter" else {"gamma"})
    # Wall time in New York, hours from UTC: the instants are those of the last minutes.
    now = datetime.now(UTC)
    for moment in batch.created_at.tolist():
        assert timedelta() < now - datetime.fromtimestamp(moment / 1e6, UTC) < timedelta(minutes=10)
