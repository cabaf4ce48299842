"""examples/akasha_workflow.py as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from akasha_stream.embedded import SeaweedServer, ValkeyServer

EXAMPLE = Path(__file__).parents[2] / "examples" / "akasha_workflow.py"


def run(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(EXAMPLE.parents[1])},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


WORKFLOW = (
    "Stored embedding: conv_12345",
    "Stored a batch: embeddings/session-buddy-002/2026-01-25/batch_",
    "Read it back from the warm tier (s3-warm): ",
    "Found 3 similar embeddings to",
    "  - conv_12345: 0.8",
    "Cached results in Redis",
    "Retrieved 3 results from cache",
)


def test_with_the_servers_that_the_settings_name(
    seaweedfs: SeaweedServer, valkey: ValkeyServer, tmp_path: Path
) -> None:
    out = run(cwd=tmp_path)
    assert [line for line in WORKFLOW if line not in out] == []


@pytest.mark.slow
def test_embedded_on_a_bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing runs, no variable is set; a worker shows at the end that it is one storage."""
    for name in list(os.environ):
        if name.startswith(("AKASHA_", "AWS_", "REDIS_", "KAFKA_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    out = run("--embedded", cwd=tmp_path)
    more = (
        "Its search finds what was stored without it: conv_12345",
        "Published through Kafka and stored beside it: conv_12348, conv_12349",
    )
    assert [line for line in (*WORKFLOW, *more) if line not in out] == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("akasha-")] == []
