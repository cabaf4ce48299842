"""The clock: in step with Kafka's and Redis', and kept in step by something.

Windows, created_at limits and heartbeats compare times of several machines; seconds matter, milliseconds don't.
"""

from __future__ import annotations

import ctypes
import time

from akasha_stream.doctor.finding import Findings
from akasha_stream.errors import AkashaError, LookupUnavailable
from akasha_stream.lookups.connection import connect, unavailable_as_lookup_error
from akasha_stream.settings import Settings
from akasha_stream.topics.reader import reading

MOST_S = 2.0
_UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)


async def check_clock(found: Findings, settings: Settings) -> None:
    state = synchronised()
    if state is False:
        found.warn("kept in step", "the kernel says that nothing does", "run chrony, ntpd or systemd-timesyncd")
    elif state is None:
        found.ok("kept in step", "not known: the kernel can't be asked here")
    else:
        found.ok("kept in step", "the kernel says so")
    if settings.redis.enabled:
        await _against_redis(found, settings)
    await _against_log(found, settings)


async def _against_redis(found: Findings, settings: Settings) -> None:
    client = connect(settings.redis)
    try:
        with unavailable_as_lookup_error():
            await client.ping()  # connected; the next answer takes a round trip alone
            before = time.time()
            seconds, microseconds = await client.time()
            after = time.time()
    except LookupUnavailable:
        return  # said by the check of Redis
    finally:
        await client.aclose()
    off_s = seconds + microseconds / 1e6 - (before + after) / 2
    _compare(found, "against Redis", off_s)


async def _against_log(found: Findings, settings: Settings) -> None:
    """The youngest record can't be from the future."""
    try:
        async with reading(settings.broker, settings.topics.embeddings) as reader:
            firsts, ends = await reader.beginnings(), await reader.ends()
            last = {partition: max(firsts[partition], end - 1) for partition, end in ends.items()}
            youngest_ms = 0
            async for records in reader.between(last, ends):
                youngest_ms = max(youngest_ms, *(record.timestamp for record in records))
    except AkashaError:
        return  # said by the check of the broker
    if not youngest_ms:
        return
    ahead_s = youngest_ms / 1000 - time.time()
    if ahead_s > MOST_S:
        found.fail(
            "against Kafka",
            f"the youngest record is {ahead_s:.1f} s ahead of this clock",
            "set this machine's clock right, or the broker's",
        )
    else:
        found.ok("against Kafka", "the youngest record is of the past")


def _compare(found: Findings, check: str, off_s: float) -> None:
    if abs(off_s) > MOST_S:
        found.fail(
            check,
            f"it is {abs(off_s):.1f} s {'ahead of' if off_s > 0 else 'behind'} this clock",
            "set this machine's clock right, or that one's",
        )
    else:
        found.ok(check, f"{abs(off_s) * 1e3:.0f} ms apart")


def synchronised() -> bool | None:
    """What the kernel says (adjtimex(2), which only reads with modes = 0); None where it can't be asked."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        state = libc.adjtimex(ctypes.create_string_buffer(512))  # struct timex is 208 bytes, all zero: modes = 0
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _UNSYNCHRONISED
