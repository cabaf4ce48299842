"""The option --key of commands that ask workers."""

from __future__ import annotations

from typing import Annotated

import typer

from akasha_stream.cli.context import Invocation


def _keep(ctx: typer.Context, key: str | None) -> str | None:
    if key and not ctx.resilient_parsing:
        ctx.ensure_object(Invocation).key = key
    return key


Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="KEY",
        envvar="AKASHA_API_KEY",
        show_envvar=False,
        callback=_keep,
        help="API key for the workers; in the variable it is in no list of processes.  [default: $AKASHA_API_KEY]",
    ),
]
"""Its value is in the settings (auth.key) that the command gets."""
