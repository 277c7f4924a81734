"""Keeping the model busy and going on after trouble: work done ahead in a thread, and the record of what went wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from analysis.data.defects import Defects
from analysis.data.samples import Sample
from analysis.errors import BackboneError, DataError

ON_ERROR = ("raise", "skip")
_Item = TypeVar("_Item")
_END = object()


def ahead(items: Iterator[_Item], depth: int = 2) -> Iterator[_Item]:
    """The items of a generator, in order, with up to `depth` of them computed in advance by one thread. What the
    generator raises is raised here, at the item's turn."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead") as pool:
        pending: deque[Future] = deque(pool.submit(next, items, _END) for _ in range(depth))
        try:
            while (item := pending.popleft().result()) is not _END:
                pending.append(pool.submit(next, items, _END))
                yield item
        finally:
            for future in pending:
                future.cancel()


class Record:
    """Which samples were left out and why, and whose text was cut."""

    def __init__(self, samples: Sequence[Sample], on_error: str) -> None:
        if on_error not in ON_ERROR:
            raise BackboneError(f"on_error is {on_error!r}; expected one of {', '.join(ON_ERROR)}.")
        self._samples, self._skip = samples, on_error == "skip"
        self.skipped: dict[int, str] = {}
        self.truncated: set[int] = set()

    def fail_from(self, start: int) -> Callable[[int, DataError], None]:
        """A function that records, or raises, the failure of the sample at `start` + its argument."""

        def fail(place: int, error: DataError) -> None:
            sample = self._samples[start + place]
            if not self._skip:
                raise DataError(f"Sample {sample.sample_id!r} cannot be embedded: {error}") from error
            self.skipped[start + place] = str(error)

        return fail

    def defects(self) -> Defects:
        found = Defects()
        for kind, places in (("picture that cannot be read", self.skipped), ("text cut to fit", self.truncated)):
            for place in sorted(places):
                found.add(kind, self._samples[place].sample_id)
        return found
