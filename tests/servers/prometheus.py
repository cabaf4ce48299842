"""Prometheus and promtool: from the PATH, else from Debian's package, unpacked into the cache folder (19 MB, 2 s)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import httpx
import pytest
import yaml

from akasha_stream.embedded.ports import LOOPBACK
from tests.servers.debian import unpacked
from tests.servers.http_process import HttpProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHIPPED = Path(__file__).parents[2] / "deploy" / "prometheus"


def prometheus_programs() -> Path:
    """The folder with `prometheus` and `promtool`."""
    installed = shutil.which("promtool")
    if installed is not None and shutil.which("prometheus") is not None:
        return Path(installed).parent
    return unpacked("prometheus", "prometheus", what="Prometheus") / "usr" / "bin"


@pytest.fixture(scope="session")
def promtool() -> Path:
    return prometheus_programs() / "promtool"


class PrometheusServer(HttpProcess):
    """With the configuration that is shipped, but for its targets and a second between scrapes."""

    name: ClassVar[str] = "prometheus"
    ready_path: ClassVar[str] = "/-/ready"
    targets: ClassVar[Sequence[str]] = ()

    def prepare(self) -> None:
        config = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(SHIPPED / name) for name in config["rule_files"]]
        for job in config["scrape_configs"]:
            job["static_configs"] = [{"targets": list(self.targets)}]
        (self.data_dir / "prometheus.yml").write_text(yaml.safe_dump(config))

    def command(self) -> list[str]:
        return [
            str(prometheus_programs() / "prometheus"),
            f"--config.file={self.data_dir / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.data_dir / 'data'}",
            f"--web.listen-address={LOOPBACK}:{self.port}",
        ]

    def get(self, path: str, **parameters: str) -> object:
        answer = httpx.get(f"{self.endpoint_url}/api/v1/{path}", params=parameters, timeout=20)
        body = answer.json()
        assert body["status"] == "success", body
        return body["data"]


def scraping(*targets: str) -> Iterator[PrometheusServer]:
    """One that scrapes these (host:port)."""

    class Scraping(PrometheusServer):
        pass

    Scraping.targets = targets
    with Scraping.start() as server:
        yield server
