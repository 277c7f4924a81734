"""What several commands share: options, lists of cut-offs, the progress bars."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


class UserPath(click.Path):
    """A path of which "~" is the user's home, also where no shell has seen it (--cache=~/x, an environment variable)."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(Path(value).expanduser(), param, ctx)
        except RuntimeError as error:  # "~nobody/x": there is no such user
            self.fail(f"{value!s}: {error}", param, ctx)


def cache_option(function: Callable) -> Callable:
    return click.option(
        "--cache",
        type=UserPath(file_okay=False),
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
