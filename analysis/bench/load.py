"""The app under visitors: how long each page takes when 20 people click over all of them, whether anything fails, what a
session's memory grows by, how many files the server holds open, and the model that all share. On the embedded demo."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from analysis.bench.measuring import Row, rounded
from analysis.bench.pages import PAGES, p95
from analysis.bench.visitor import ROOT, Server, Visitor, button_widget
from analysis.errors import AnalysisError
from analysis.store import Store, find_stores, open_store

METHODS = ("base", "realign", "removal:attribution,share=0.01", "centre", "pca:n=8")


@dataclass(frozen=True)
class Sizes:
    visitors: int = 20
    seconds: float = 180.0
    reruns: int = 300
    think: float = 1.0  # seconds on average between an answer and the next click
    model: tuple[int, float] = (6, 60.0)  # visitors of the one model, and for how many seconds


QUICK = Sizes(visitors=2, seconds=4, reruns=6, think=0.1, model=(3, 6.0))


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

    @property
    def failures(self) -> str:
        return f"{len(self.errors)} errors" + (f", first: {self.errors[0][:120]}" if self.errors else "")

    @property
    def words(self) -> str:
        each = (
            f"{page or 'start'} {statistics.median(found):.2f}/{p95(found):.2f} s (n={len(found)})"
            for page, found in sorted(self.seconds.items())
        )
        return f"median/p95: {', '.join(each)}"


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
        yield Row(
            "load", "visitors", rounded(p95(every)),
            note=f"p95 of {len(every)} answers to {sizes.visitors} visitors in {sizes.seconds:.0f} s, {seen.failures}; "
            f"{seen.words}",
        )  # fmt: skip
        yield Row(
            "load", "descriptors", None,
            note=f"{_descriptors(cache, stores)}; {process.num_fds()} of the server that {sizes.visitors} visitors have just "
            "left: three for each of the last half minute",
        )  # fmt: skip
        yield _share_the_model(server, stores, sizes)
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

    _together(visit, sizes.visitors)
    return seen


def _share_the_model(server: Server, stores: list[Store], sizes: Sizes) -> Row:
    """Visitors who query, load, unload and leave midway, all with the one model in memory, in turn with another one."""
    asked = [store for store in stores if store.has_model and "t2i" in store.tasks]
    visitors, seconds = sizes.model
    seen, until = Seen(), time.monotonic() + seconds

    def visit(number: int) -> None:
        rng = random.Random(number)
        while time.monotonic() < until:
            store = rng.choice(asked)
            words = (
                f"{_query('live_query', store, rng)}&source=upload&text=visitor+{number}+asks+{rng.randrange(10**6)}"
            )
            try:
                with Visitor(server, "live_query") as visitor:
                    run = visitor.run(words)
                    seen.took("query", run.seconds)
                    act = rng.choice(("press", "again", "leave"))
                    if act == "press":
                        # Another visitor may have loaded or unloaded meanwhile: either button may be there.
                        button = "_live_unload" if run.shows("_live_unload") else "_live_load"
                        pressed = visitor.run(words, widgets=(button_widget(run.widget(button)[0]),))
                        seen.took(button.removeprefix("_live_"), pressed.seconds)
                    elif act == "again":
                        seen.took("query", visitor.run(words + "+again").seconds)
                    else:
                        visitor.leave(words + "+and+leaves")
            except (AnalysisError, OSError) as error:
                seen.failed(error)

    _together(visit, visitors)
    with Visitor(server, "live_query") as visitor:  # works afterwards
        last = visitor.run(f"{_query('live_query', asked[0], random.Random(0))}&source=upload&text=a+last+one")
    return Row(
        "load", "model_slot", rounded(p95([t for found in seen.seconds.values() for t in found])),
        note=f"p95 of {visitors} visitors of one model in {seconds:.0f} s (those of {len(asked)} stores in turn), "
        f"{seen.failures}; {seen.words}; a query afterwards {last.seconds:.2f} s",
    )  # fmt: skip


def _together(visit: Callable[[int], None], visitors: int) -> None:
    threads = [threading.Thread(target=visit, args=(number,)) for number in range(visitors)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _query(page: str, store: Store, rng: random.Random) -> str:
    """An address as a click makes it; a store takes the task and the method of one visitor in three."""
    place = f"{store.path.parent.name}/{store.path.name}"
    found = PAGES[page].format(store=place, concept=rng.randrange(store.n_concepts), i=rng.randrange(20))
    if page in ("retrieval_lab", "live_query") and store.tasks:
        found = found.replace("task=t2i", f"task={rng.choice(store.tasks)}")
        found += f"&method={rng.choice(METHODS)}" if rng.random() < 0.33 else ""
    return found


def _descriptors(cache: Path, stores: list[Store]) -> str:
    """One visitor opens every page of every store on a fresh server."""
    with Server(cache) as server, Visitor(server, "") as visitor:
        for store in stores:
            for page in PAGES:
                visitor.turn_to(page)
                visitor.run(_query(page, store, random.Random(0)))
        process = psutil.Process(server.pid)
        return (
            f"{process.num_fds()} descriptors after every page of {len(stores)} stores, {len(process.open_files())} of them "
            f"files, {len(process.net_connections())} connections"
        )


def _growth(server: Server, store: Store, reruns: int, process: psutil.Process) -> tuple[int, int]:
    """Resident bytes after the first tenth of the reruns, and after all."""
    before = 0
    with Visitor(server, "concept") as visitor:
        for number in range(reruns):
            visitor.run(_query("concept", store, random.Random(number % 30)))
            if number == max(reruns // 10, min(30, reruns - 1)):
                before = process.memory_info().rss
    return before or process.memory_info().rss, process.memory_info().rss
