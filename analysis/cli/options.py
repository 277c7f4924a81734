"""What several commands share: options, lists of cut-offs, the progress bars."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Any

import click

from analysis import CACHE, CACHE_VARIABLE
from analysis.errors import DataError


class UserPath(click.Path):
    """A path of which "~" is the user's home, also where no shell has seen it (--cache=~/x, an environment variable)."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            path = super().convert(Path(value).expanduser(), param, ctx)
            with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                os.stat(path)
            return path
        except (RuntimeError, ValueError, OSError) as error:  # "~nobody/x", a NUL, a name too long for the file system
            self.fail(f"{str(value)[:80]!r} is no path: {getattr(error, 'strerror', None) or error}", param, ctx)


class FiniteRange(click.FloatRange):
    """A range that no "nan" lies in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        return number if math.isfinite(number) else self.fail(f"{value!r} is no finite number.", param, ctx)


def cache_option(function: Callable) -> Callable:
    return click.option(
        "--cache",
        type=UserPath(file_okay=False),
        default=Path(CACHE),
        envvar=CACHE_VARIABLE,
        show_default=True,
        show_envvar=True,
        help="Folder of stores and SAEs.",
    )(function)


def plugin_option(function: Callable) -> Callable:
    """Steps from a file of one's own; it runs with the rights of whoever starts the command."""

    def load(context: click.Context, parameter: click.Parameter, files: tuple[Path, ...]) -> tuple[Path, ...]:
        from analysis.retrieval.interventions import load_named_plugins, load_plugin

        for problem in load_named_plugins():
            click.echo(problem, err=True)
        for file in files:
            load_plugin(file)
        return files

    return click.option(
        "--plugin",
        "plugins",
        multiple=True,
        type=UserPath(dir_okay=False),
        callback=load,
        is_eager=True,
        expose_value=False,
        help="A Python file with steps of your own; repeat for several. $RETRIEVALLENS_PLUGINS names them for good.",
    )(function)


def engine_options(what: str) -> Callable[[Callable], Callable]:
    """Where the parts of a long computation are computed. what: those parts, in the plural."""
    chosen = (
        click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True,
                     help=f"Where {what} are computed; ray needs `make cluster`."),
        click.option("--ray-address", default=None, help="A running Ray cluster; a local one by default."),
        click.option("--workers", type=click.IntRange(min=1), default=None, help="Ray workers."),
    )  # fmt: skip
    return lambda function: reduce(lambda decorated, option: option(decorated), reversed(chosen), function)


def read_picture(path: Path) -> bytes:
    """The bytes of a picture file that somebody named."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"The picture {path} cannot be read ({error.strerror}); give the path of a picture file."
        ) from error


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
