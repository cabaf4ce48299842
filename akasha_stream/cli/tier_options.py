"""Options that several commands about segments have."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="SEGMENT", help="As `tiers list --by segment` names it.")]
System = Annotated[list[str] | None, typer.Option(help="Segments with rows of this system; may be repeated.")]
Since = Annotated[str | None, typer.Option(metavar="TIME", help="… with events created at or after: a date or time.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="… with events created before: a date or time.")]
To = Annotated[
    Literal["hot", "warm", "cold"] | None,
    typer.Option(help="Move the chosen ones there, whatever the policy says."),
]
