"""The lab that `retrieve` asks: one task of one store, and where a task that is larger than memory is measured."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from analysis.build.files import only_one
from analysis.cli.options import Bars
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.interventions.registry import plugin_files
from analysis.retrieval.ranking.blocks import fits_in_memory
from analysis.retrieval.ranking.passes import Runner
from analysis.retrieval.task import RetrievalSpace, space_from_store
from analysis.store.read import Store, open_store


@dataclass(frozen=True)
class Asked:
    """A task, and what it may take. memory: GB of a task held whole, None for half of what is free; work: folder in which
    sums are kept, None for `work` beside the store's backbone; the rest as in `over_ray`."""

    store: Path
    task: str
    pool: str = "local"
    partner: Path | None = None
    memory: float | None = None
    engine: str = "local"
    ray_address: str | None = None
    workers: int | None = None
    work: Path | None = None

    @property
    def may_hold(self) -> int | None:
        """Bytes that a task held whole may take; none of it where a cluster computes, which is given spans."""
        if self.engine == "ray":
            return 0
        return None if self.memory is None else int(self.memory * 1e9)


@contextmanager
def task_lab(asked: Asked) -> Iterator[tuple[Store, Lab]]:
    """(the open store, the lab of its task). What was kept of a task in blocks is deleted when the block ends well, and
    found again by the same command when it did not."""
    opened = open_store(asked.store)
    space = space_from_store(opened, asked.task, asked.pool)
    first = None if asked.partner is None else space_from_store(open_store(asked.partner), asked.task, asked.pool)
    memory = asked.may_hold
    with ExitStack() as stack:
        runner = None
        if not fits_in_memory(space, memory=memory):
            runner = stack.enter_context(_runner(asked, opened, space))
        yield opened, Lab(space, None if first is None else lambda _: first, memory=memory, runner=runner)


@contextmanager
def _runner(asked: Asked, store: Store, space: RetrievalSpace) -> Iterator[Runner]:
    parts = [
        store.manifest.digest,
        store.derived.folder,
        space.task,
        asked.pool,
        *(file.read_bytes().hex() for file in plugin_files()),
    ]
    name = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    folder = (asked.work or store.path.absolute().parent.parent / "work") / f"ranks-{name}"
    with ExitStack() as stack:
        stack.enter_context(only_one(folder, "measuring"))
        if asked.engine == "ray":
            from analysis.build.cluster import over_ray

            over = stack.enter_context(over_ray(address=asked.ray_address, workers=asked.workers))
            yield Runner(folder, Bars(), over)
        else:
            yield Runner(folder, Bars())
    shutil.rmtree(folder, ignore_errors=True)
