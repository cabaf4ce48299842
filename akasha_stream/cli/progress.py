"""A bar on stderr for work that takes a while, where that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self


class ProgressBar:
    """`with ProgressBar() as bar: bar.update("reading", 3, 10)`. Prints nothing where stderr is no terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._bar.start()
        return self

    def update(self, what: str, done: int, of: int | None) -> None:
        """`of` None: not known."""
        if self._bar is None:
            return
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=of)
        self._bar.update(self._tasks[what], completed=done, total=of)

    def __exit__(self, *raised: object) -> None:
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def progress_bar(what: str, total: int | None) -> Iterator[Callable[..., None]]:
    """Gives a function to call for each piece that is done, whatever it is called with. `total` None: not known."""
    done = 0
    with ProgressBar() as bar:

        def step(*_: object) -> None:
            nonlocal done
            done += 1
            bar.update(what, done, total)

        yield step
