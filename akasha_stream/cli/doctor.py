"""Check the surroundings, and say what to do about each fault."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from akasha_stream.cli.context import Invocation, Output, output, printable
from akasha_stream.cli.exits import FAILED

if TYPE_CHECKING:
    from akasha_stream.doctor.finding import Finding

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def command(
    ctx: typer.Context,
    *,
    storage: Annotated[
        bool | None,
        typer.Option(
            "--storage/--no-storage",
            help="Check the object stores of akasha-storage.yml.  [default: with tiers.enabled]",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")] = False,
) -> None:
    """Check settings, broker, object stores, Redis, disk, clock, extensions and workers; say what to do about a fault.

    Each check is ok, warn or fail. Changes nothing: the object stores get a small object that is removed again, Redis
    a key. Exit code 1 if a check failed; warnings alone are 0.

    \b
    Examples:
      akasha-stream doctor
      akasha-stream doctor --storage
      akasha-stream doctor --json | jq '.checks[] | select(.outcome != "ok")'
    """
    invocation = ctx.find_object(Invocation) or Invocation()
    findings = _examine(invocation, storage)
    out = output(json)
    _show(out, findings)
    if any(finding.outcome == "fail" for finding in findings):
        raise typer.Exit(FAILED)


def _examine(invocation: Invocation, storage: bool | None) -> list[Finding]:
    from akasha_stream.cli.context import quiet_libraries
    from akasha_stream.doctor.configuration import check_settings, tiers_enabled
    from akasha_stream.doctor.finding import Findings

    found = Findings("settings")
    settings = check_settings(found, invocation.settings_path, invocation.environment)
    if settings is None:
        return found.found
    quiet_libraries(settings.logging)
    from akasha_stream.doctor.examine import examine

    wanted = tiers_enabled(settings) if storage is None else storage
    with _Waiting():
        return found.found + asyncio.run(examine(settings, storage=wanted))


class _Waiting:
    """A line on stderr while the checks run, where that is a terminal."""

    def __enter__(self) -> None:
        self._status: Any = None
        if sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status("checking …")
            self._status.start()

    def __exit__(self, *raised: object) -> None:
        if self._status is not None:
            self._status.stop()


def _show(out: Output, findings: list[Finding]) -> None:
    from akasha_stream.cli.figures import counted

    fails = sum(finding.outcome == "fail" for finding in findings)
    warnings = sum(finding.outcome == "warn" for finding in findings)
    if not out.json:
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for finding in findings:
            text = printable(finding.detail) + (f"\n→ {printable(finding.advice)}" if finding.advice else "")
            grid.add_row(
                Text(finding.outcome, style=_STYLES[finding.outcome]), f"{finding.area}: {finding.check}", Text(text)
            )
        out.console.print(grid)
    out.line(f"{counted(len(findings), 'check')}: {fails} failed, {counted(warnings, 'warning')}.")
    out.result(
        {
            "ok": not fails,
            "failed": fails,
            "warnings": warnings,
            "checks": [asdict(finding) for finding in findings],
        }
    )
