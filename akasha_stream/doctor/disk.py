"""The disk under a worker's data directory: can it be written, is there room, and does it last?"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
from pathlib import Path

from akasha_stream.doctor.finding import Findings
from akasha_stream.operations.workers import registered_workers
from akasha_stream.settings import Settings

LEAST_BYTES = 1_000_000_000
FEW_BYTES = 5_000_000_000
FEW_SHARE = 0.1
BYTES_PER_EVENT = 5_000
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "glusterfs"}
_MEMORY = {"tmpfs", "ramfs"}


async def check_disks(found: Findings, settings: Settings) -> None:
    """Of the workers that run on this machine, as they say in their registry; without one, of the settings."""
    workers, _ = await registered_workers(settings)
    folders = {Path(each.data_dir) for each in workers if each.data_dir and each.host == socket.gethostname()}
    for folder in sorted(folders) or [settings.hot.data_dir.absolute()]:
        await asyncio.to_thread(check_disk, found, folder, in_use=bool(folders))


def check_disk(found: Findings, folder: Path, *, in_use: bool = False) -> None:
    """`in_use`: a worker runs on it, maybe as another user."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".doctor-") as file:
            file.write(b"x" * 4_096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if in_use and isinstance(error, PermissionError):
            found.ok("writable", f"{folder}, by its worker and not by the user {_user()}")
            return
        found.fail(
            "writable",
            f"{existing}: {error.strerror}",
            f"give the user {_user()} the right to write there, or set hot.data_dir to another folder"
            if existing.is_dir()
            else "this is no folder: set hot.data_dir to another one, or move it away",
        )
        return
    found.ok("writable", str(folder) if existing == folder else f"{folder} is made in {existing}")
    usage = shutil.disk_usage(existing)
    events = f"room for some {usage.free // BYTES_PER_EVENT:,} events"
    detail = f"{usage.free / 1e9:,.1f} of {usage.total / 1e9:,.1f} GB free, {events}"
    advice = "make room, set hot.data_dir to a larger disk, or enable tiers; a full disk stops ingest"
    if usage.free < LEAST_BYTES:
        found.fail("room", detail, advice)
    elif usage.free < FEW_BYTES or usage.free < FEW_SHARE * usage.total:
        found.warn("room", detail, advice)
    else:
        found.ok("room", detail)
    kind = filesystem(existing)
    if kind in _MEMORY:
        found.warn("kind", f"{kind}: in memory, gone after a restart", "set hot.data_dir to a folder on a disk")
    elif kind in _NETWORK:
        found.warn("kind", f"{kind}: a network file system, slow to sync", "set hot.data_dir to a local disk")
    else:
        found.ok("kind", kind or "not known")


def filesystem(path: Path, mounts: str | None = None) -> str | None:
    """Type of the file system that a path is on, from /proc/mounts; None where that can't be read."""
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
    resolved = path.resolve()
    best: tuple[int, str] | None = None
    for line in mounts.splitlines():
        parts = line.split(" ")
        if len(parts) < 3:
            continue
        point = Path(parts[1].replace("\\040", " "))
        # A later mount on the same point hides the earlier one.
        if resolved.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = len(point.parts), parts[2]
    return None if best is None else best[1]


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
