"""Print the completion script of a shell."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from akasha_stream.cli.root import COMPLETE, PROGRAM


class Shell(StrEnum):
    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def command(shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.")]) -> None:
    """Print the script that completes commands and options in a shell.

    \b
    Examples:
      akasha-stream completion bash > ~/.local/share/bash-completion/completions/akasha-stream
      akasha-stream completion zsh > "${fpath[1]}/_akasha-stream"
      akasha-stream completion fish > ~/.config/fish/completions/akasha-stream.fish
      source <(akasha-stream completion bash)    # in this shell alone
    """
    from typer._completion_shared import get_completion_script

    script = get_completion_script(prog_name=PROGRAM, complete_var=COMPLETE, shell=shell.value)
    sys.stdout.write(f"{script}\n")
