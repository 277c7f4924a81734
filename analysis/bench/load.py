"""The app under visitors: how long each page takes when 20 people click over all of them, whether anything fails, what a
session's memory grows by, and how many files the server holds open. On the embedded demo, on this machine."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from analysis.bench.measuring import Row, rounded
from analysis.bench.pages import PAGES, p95
from analysis.bench.visitor import ROOT, Server, Visitor
from analysis.errors import AnalysisError
from analysis.store import Store, find_stores, open_store

METHODS = ("base", "realign", "removal:attribution,share=0.01", "centre", "pca:n=8")


@dataclass(frozen=True)
class Sizes:
    visitors: int = 20
    seconds: float = 180.0
    reruns: int = 300
    think: float = 1.0  # seconds on average between an answer and the next click


QUICK = Sizes(visitors=2, seconds=4, reruns=6, think=0.1)


@dataclass
class Seen:
    """What visitors met: seconds by page, and what failed."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def took(self, page: str, seconds: float) -> None:
        with self.lock:
            self.seconds.setdefault(page, []).append(seconds)

    def failed(self, error: Exception) -> None:
        with self.lock:
            self.errors.append(f"{type(error).__name__}: {error}")


def run(quick: bool = False, cache: Path = ROOT / "cache") -> Iterator[Row]:
    sizes = QUICK if quick else Sizes()
    stores = [open_store(ref.path) for ref in find_stores(cache) if ref.ok]
    if not stores:
        yield Row("load", "visitors", None, note=f"no store under {cache.name}/: run `python -m analysis demo`")
        return
    with Server(cache) as server:
        process = psutil.Process(server.pid)
        seen = _click_about(server, stores, sizes)
        every = [seconds for found in seen.seconds.values() for seconds in found]
        words = ", ".join(
            f"{page or 'start'} {statistics.median(found):.2f}/{p95(found):.2f} s (n={len(found)})"
            for page, found in sorted(seen.seconds.items())
        )
        failed = f"{len(seen.errors)} errors" + (f", first: {seen.errors[0][:120]}" if seen.errors else "")
        yield Row(
            "load", "visitors", rounded(p95(every)),
            note=f"p95 of {len(every)} answers to {sizes.visitors} visitors in {sizes.seconds:.0f} s, {failed}; "
            f"median/p95: {words}",
        )  # fmt: skip
        for store in stores:
            _visit(server, store)
        yield Row(
            "load", "descriptors", None,
            note=f"{process.num_fds()} descriptors after every page of {len(stores)} stores, "
            f"{len(process.open_files())} of them files, {len(process.net_connections())} connections",
        )  # fmt: skip
        before, after = _growth(server, stores[0], sizes.reruns, process)
        yield Row(
            "load", "session_growth", None, peak_mb=rounded(after / 1e6),
            note=f"resident memory grew by {100 * (after / before - 1):.1f} % in {sizes.reruns} reruns of one session",
        )  # fmt: skip


def _click_about(server: Server, stores: list[Store], sizes: Sizes) -> Seen:
    seen, until = Seen(), time.monotonic() + sizes.seconds

    def visit(number: int) -> None:
        rng = random.Random(number)
        while time.monotonic() < until:
            page = rng.choice(list(PAGES))
            try:
                with Visitor(server, page) as visitor:
                    for _ in range(rng.randint(2, 5)):
                        seen.took(page, visitor.run(_query(page, rng.choice(stores), rng)).seconds)
                        if time.monotonic() > until:
                            return
                        time.sleep(rng.expovariate(1 / sizes.think))
            except (AnalysisError, OSError) as error:
                seen.failed(error)

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(sizes.visitors)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


def _query(page: str, store: Store, rng: random.Random) -> str:
    """An address as a click makes it; a store takes the task and the method of one visitor in three."""
    place = f"{store.path.parent.name}/{store.path.name}"
    found = PAGES[page].format(store=place, concept=rng.randrange(store.n_concepts), i=rng.randrange(20))
    if page in ("retrieval_lab", "live_query") and store.tasks:
        found = found.replace("task=t2i", f"task={rng.choice(store.tasks)}")
        found += f"&method={rng.choice(METHODS)}" if rng.random() < 0.33 else ""
    return found


def _visit(server: Server, store: Store) -> None:
    for page in PAGES:
        with Visitor(server, page) as visitor:
            visitor.run(_query(page, store, random.Random(0)))


def _growth(server: Server, store: Store, reruns: int, process: psutil.Process) -> tuple[int, int]:
    """Resident bytes after the first tenth of the reruns, and after all."""
    before = 0
    with Visitor(server, "concept") as visitor:
        for number in range(reruns):
            visitor.run(_query("concept", store, random.Random(number % 30)))
            if number == max(reruns // 10, min(30, reruns - 1)):
                before = process.memory_info().rss
    return before or process.memory_info().rss, process.memory_info().rss
