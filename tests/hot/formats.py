"""Write a shard as a release leaves it, for later releases to open: python -m tests.hot.formats

Run it when hot.schema.FORMAT changes, with the last release, and keep the archive in tests/data.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
from pathlib import Path

from akasha_stream.hot.schema import FORMAT
from akasha_stream.hot.shard import Shard
from tests.hot.kill import kill_log
from tests.hot.log import OneShard, counters, live, settings_for

DATA = Path(__file__).parents[1] / "data"
EXPECTED = "expected.json"
SEAL_ROWS = 20


def archive(number: int) -> Path:
    return DATA / f"format-{number}.tar.xz"


def expected(shard: Shard) -> dict[str, object]:
    rows = {"/".join(identity): [position, content] for identity, (position, content, _) in live(shard).items()}
    vectors = {"/".join(identity): vector.hex() for identity, (_, _, vector) in live(shard).items()}
    return {"next_offset": shard.next_offset, "rows": rows, "vectors": vectors, "counters": counters(shard)}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        with OneShard(settings_for(Path(folder), seal_rows=SEAL_ROWS, build_indexes=True)) as one:
            log = kill_log()
            log.apply(one.shard, 0, len(log) - 3)
            one.sealed()
            log.apply(one.shard)  # the youngest file has a WAL
            Path(folder, EXPECTED).write_text(json.dumps(expected(one.shard)))
        with tarfile.open(archive(FORMAT), "w:xz") as tar:
            tar.add(folder, ".", filter=_anonymous)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main()
