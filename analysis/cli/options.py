"""What several commands share: options, lists of cut-offs, the progress bars."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def cache_option(function: Callable) -> Callable:
    return click.option(
        "--cache",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("cache"),
        envvar="RETRIEVALLENS_CACHE",
        show_default=True,
        show_envvar=True,
        help="Folder of stores and SAEs.",
    )(function)


class Bars:
    """One progress bar a step, with rate and time left."""

    def __init__(self) -> None:
        self._bars: dict[str, Any] = {}

    def __call__(self, step: str, done: int, total: int) -> None:
        from tqdm import tqdm

        bar = self._bars.get(step)
        if bar is None or bar.total != total:
            if bar is not None:
                bar.close()
            bar = self._bars[step] = tqdm(total=total, desc=step, initial=done, dynamic_ncols=True)
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
