"""All checks, side by side; none of them can hold up or break the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from akasha_stream.doctor.broker import check_broker
from akasha_stream.doctor.clock import check_clock
from akasha_stream.doctor.disk import check_disks
from akasha_stream.doctor.extensions import check_extensions
from akasha_stream.doctor.finding import Finding, Findings
from akasha_stream.doctor.redis import check_redis
from akasha_stream.doctor.storage import check_storage
from akasha_stream.doctor.workers import check_workers
from akasha_stream.errors import AkashaError
from akasha_stream.settings import Settings

LONGEST_S = 60.0

type Check = Callable[[Findings], Awaitable[None]]


async def examine(settings: Settings, *, storage: bool) -> list[Finding]:
    """`storage`: also the object stores, with a small object that is removed again. Raises nothing on purpose."""
    checks: list[tuple[str, Check]] = [
        ("broker", lambda found: check_broker(found, settings)),
        ("redis", lambda found: check_redis(found, settings)),
        ("disk", lambda found: check_disks(found, settings)),
        ("clock", lambda found: check_clock(found, settings)),
        ("extensions", lambda found: check_extensions(found, settings)),
        ("workers", lambda found: check_workers(found, settings)),
    ]
    if storage:
        checks.insert(1, ("storage", lambda found: check_storage(found, settings.environment)))
    return await run_checks(checks)


async def run_checks(checks: Sequence[tuple[str, Check]], longest_s: float = LONGEST_S) -> list[Finding]:
    areas = await asyncio.gather(*(_guarded(area, check, longest_s) for area, check in checks))
    return [finding for area in areas for finding in area]


async def _guarded(area: str, check: Check, longest_s: float) -> list[Finding]:
    found = Findings(area)
    try:
        async with asyncio.timeout(longest_s):
            await check(found)
    except TimeoutError:
        found.fail("time", f"not done after {longest_s:g} s", "something hangs: see what the last line above asks")
    except AkashaError as error:
        found.fail("error", str(error), "see the message; the checks after it were not made")
    except Exception as error:  # a fault of the check itself must not hide what the others found
        found.fail(
            "error",
            f"{type(error).__name__}: {error}",
            "this check itself failed: please report it, with the output of akasha-stream --version",
        )
    return found.found
