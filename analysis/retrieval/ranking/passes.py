"""Long passes over the candidates of a task, span by span: with progress, kept as they go, and computed elsewhere if asked.

A pass is a sum: what it needs of every span of rows is added up in the order of the spans. So it can stop after any of
them and go on later, and its spans can be computed by anybody; the sum is the same to the last bit.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from analysis.errors import RetrievalError

SPAN = 1 << 16  # rows: a minute of one core for 10,000 queries of 3,584 dimensions
Span: TypeAlias = tuple[int, int]  # rows start .. stop - 1
Sums: TypeAlias = dict[str, np.ndarray]
_DONE = "rows_done"  # of the kept sums: how many rows they cover


class Pass(Protocol):
    """Sums over rows. title: for people; key: what tells it from every other pass over the same task."""

    @property
    def title(self) -> str: ...

    @property
    def key(self) -> str: ...

    @property
    def n(self) -> int:
        """How many rows there are."""

    def part(self, span: Span) -> Sums:
        """The sums over one span."""

    def joined(self, first: Sums, then: Sums) -> Sums:
        """The sums over two stretches of rows that follow each other."""


class Over(Protocol):
    """How the parts of a pass are computed: here or elsewhere, given back in order. Python's `map` is one."""

    def __call__(self, function: Callable[[Span], Sums], spans: Iterable[Span], /) -> Iterator[Sums]: ...


@dataclass(frozen=True)
class Runner:
    """Runs passes. folder: where sums are kept after each span (None: nowhere); progress(title, rows done, rows)."""

    folder: Path | None = None
    progress: Callable[[str, int, int], None] = lambda title, done, total: None
    over: Over = map
    span: int = SPAN

    def run(self, work: Pass) -> Sums:
        """All sums of a pass. RetrievalError where they cannot be kept."""
        sums, done = self._kept(work)
        self.progress(work.title, done, work.n)
        spans = [(start, min(start + self.span, work.n)) for start in range(done, work.n, self.span)]
        for span, part in zip(spans, self.over(work.part, spans), strict=True):
            sums = part if sums is None else work.joined(sums, part)
            self._keep(work, sums, span[1])
            self.progress(work.title, span[1], work.n)
        return work.part((0, 0)) if sums is None else sums

    def _path(self, work: Pass) -> Path | None:
        name = hashlib.sha256(f"{work.key} of {work.n} rows".encode()).hexdigest()[:16]
        return None if self.folder is None else self.folder / f"{name}.npz"

    def _kept(self, work: Pass) -> tuple[Sums | None, int]:
        path = self._path(work)
        if path is None or not path.is_file():
            return None, 0
        try:
            with np.load(path, allow_pickle=False) as kept:
                sums = dict(kept)
            return sums, int(sums.pop(_DONE))
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):  # cut off: computed again
            return None, 0

    def _keep(self, work: Pass, sums: Sums, done: int) -> None:
        path = self._path(work)
        if path is None:
            return
        buffer = io.BytesIO()
        np.savez(buffer, **sums, **{_DONE: np.array(done)})  # type: ignore[arg-type]
        partial = path.with_suffix(".part")
        try:
            partial.write_bytes(buffer.getbuffer())
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise RetrievalError(
                f"What was measured so far could not be kept in {path.parent} ({error.strerror}); free some space and run "
                "the command again: it goes on from what is kept."
            ) from error
