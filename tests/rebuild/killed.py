"""A command line that kills itself at a step: python -m tests.rebuild.killed STEP PASSING ARGUMENTS…"""

from __future__ import annotations

import sys

from akasha_stream.cli.root import run
from tests.dying import die_at


def main() -> None:
    step, passing, *arguments = sys.argv[1:]
    die_at(step, int(passing))
    sys.exit(run(arguments))


if __name__ == "__main__":
    main()
