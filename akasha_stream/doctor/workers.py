"""The workers: do some run, are they ready, and do they have every partition?"""

from __future__ import annotations

from akasha_stream.doctor.finding import Findings
from akasha_stream.operations.status import cluster_status
from akasha_stream.settings import Settings


async def check_workers(found: Findings, settings: Settings) -> None:
    status = await cluster_status(settings)
    if not status.workers:
        found.warn("running", "no worker was found", "start one: akasha-stream worker; then akasha-stream status")
        return
    found.ok("running", ", ".join(worker.name for worker in status.workers))
    problems = [problem for problem in status.problems if problem != status.broker.error]
    for problem in problems:
        found.warn("state", problem, "akasha-stream status, and that worker's log")
    if not problems:
        found.ok("state", "all ready, and every partition has an owner")
