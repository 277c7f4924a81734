"""Server time of the pages, measured on a running app: warm reruns, switching concepts, cold start, the live query.

Stores: the embedded demo where it is built, and a synthetic one of K = 32768 concepts and N = 200,000 samples, which the
first run writes under cache/work/ (half a gigabyte and some minutes).
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from analysis.bench.measuring import Row, rounded
from analysis.bench.synthetic_store import synthetic_store
from analysis.bench.visitor import ROOT, Run, Server, Visitor, choice_widget, file_widget
from analysis.data.apart import decode_apart
from analysis.errors import AnalysisError
from analysis.query import uploads as uploads_kept
from analysis.store import Store, StoreRef, find_stores, open_store

# page -> parameters; {i} changes from run to run. A rerun with new parameters is what a click in the page is.
PAGES = {
    "": "stores={store}",
    "concepts": "store={store}",
    "concept": "store={store}&concept={concept}",
    "retrieval_lab": "store={store}&task=t2i&query={i}",
    "live_query": "store={store}&task=t2i&source=data&query={i}",
    "compare": "store={store}",
    "bridges": "store={store}",
    "reproduce": "store={store}",
    "stores": "",
    "findings": "",
    "present": "",
}
OF_NO_STORE = ("findings", "present")
LIVE_BACKBONE = "qwen2-vl-mini"
NEW_METHODS = (
    "removal:energy,share=0.01",
    "centring:side",
    "realign:alpha=0.3",
    "removal:bridge_max,share=0.005",
    "pca:n=3",
)
RESULT = "ranked_after"  # key of the list after the intervention on the live page: drawn once the ranking is known


@dataclass(frozen=True)
class Sizes:
    n_samples: int = 200_000
    concepts: tuple[int, int] = (1024, 32768)
    width: int = 512
    queries: int = 3000
    candidates: int = 25_000
    reruns: int = 20
    switches: int = 40
    starts: int = 3
    uploads: int = 5
    lab: tuple[int, int] = (32_000, 3584)  # samples and width of the store that the lab works on: a real model's


QUICK = Sizes(2000, (128, 1024), 64, 50, 300, reruns=3, switches=4, starts=1, uploads=2, lab=(400, 64))


def run(quick: bool = False, cache: Path = ROOT / "cache") -> Iterator[Row]:
    sizes = QUICK if quick else Sizes()
    folder = cache / "work" / f"bench-pages-{sizes.n_samples}"
    small, large = (
        synthetic_store(
            folder, n_concepts=k, n_samples=sizes.n_samples, width=sizes.width, n_queries=sizes.queries,
            n_candidates=sizes.candidates,
        )
        for k in sizes.concepts
    )  # fmt: skip
    demo = [ref for ref in find_stores(cache) if ref.ok and open_store(ref.path).is_demo]
    with Server(folder) as server:
        on_demo = _demo_reruns(cache, demo, sizes)
        yield _warm(server, open_store(large), on_demo, sizes)
        switch, grown = _switches(server, open_store(large), sizes), _switches(server, open_store(small), sizes)
    yield _switch_row(switch, sizes)
    yield _cold_start(cache if demo else folder, bool(demo), sizes)
    yield from _live(cache, demo, sizes)
    yield _growth_row(grown, switch, sizes)
    yield _lab_at_rest(folder / "wide", sizes)


def p95(times: list[float]) -> float:
    """The time that 95 % of the runs stay within: one that was measured, not one between two."""
    return float(np.quantile(times, 0.95, method="higher"))


def _reruns(server: Server, store: Store, sizes: Sizes) -> dict[str, list[float]]:
    """Per page the seconds of its reruns with warm caches."""
    concepts = _live_concepts(store, 3)
    found = {}
    for page, parameters in PAGES.items():
        with Visitor(server, page) as visitor:

            def ask(i: int, visitor: Visitor = visitor, page: str = page, parameters: str = parameters) -> Run:
                query = parameters.format(store=_name(store), concept=concepts[i % len(concepts)], i=i % 3)
                run = visitor.run(query)
                return run if page in OF_NO_STORE else _showing(run, store.backbone)

            for i in range(3):
                ask(i)
            found[page or "overview"] = [ask(i).seconds for i in range(sizes.reruns)]
    return found


def _demo_reruns(cache: Path, demo: list[StoreRef], sizes: Sizes) -> dict[str, list[float]]:
    if not demo:
        return {}
    with Server(cache) as server:
        return _reruns(server, open_store(demo[0].path), sizes)


def _warm(server: Server, store: Store, on_demo: dict[str, list[float]], sizes: Sizes) -> Row:
    on_large = _reruns(server, store, sizes)
    limits, parts = [], []
    for name, found in ((_size(store), on_large), ("demo store", on_demo)):
        if not found:
            parts.append("no demo store here")
            continue
        limits.append(p95([t for times in found.values() for t in times]))
        each = ", ".join(f"{page} {1000 * p95(times):.0f}" for page, times in found.items())
        parts.append(f"{name} {1000 * limits[-1]:.0f} ms ({each})")
    note = f"p95 of {sizes.reruns} reruns a page, the larger of: {'; '.join(parts)}"
    return Row("pages", "warm_p95", rounded(max(limits)), note=note)


def _switches(server: Server, store: Store, sizes: Sizes) -> list[float]:
    """Seconds of opening concepts that nobody looked at before, on a page that is open."""
    concepts = _live_concepts(store, sizes.switches + 2, seed=1)
    with Visitor(server, "concept") as visitor:
        runs = [visitor.run(f"store={_name(store)}&concept={concept}") for concept in concepts]
    return [_showing(run, store.backbone).seconds for run in runs[2:]]


def _switch_row(times: list[float], sizes: Sizes) -> Row:
    note = (
        f"p95 of {len(times)} concepts not seen before, K {sizes.concepts[1]:,}, N {sizes.n_samples:,}; "
        f"median {1000 * statistics.median(times):.0f} ms"
    )
    return Row("pages", "concept_switch_p95", rounded(p95(times)), note=note)


def _lab_at_rest(cache: Path, sizes: Sizes) -> Row:
    """A click on a method that nobody asked for before, until nothing on the page is computed any more."""
    n_samples, width = sizes.lab
    path = synthetic_store(
        cache, n_concepts=sizes.concepts[1], n_samples=n_samples, width=width, n_queries=sizes.queries,
        n_candidates=sizes.candidates,
    )  # fmt: skip
    address = f"store={_name(open_store(path))}&task=i2t&method="
    with Server(cache) as server, Visitor(server, "retrieval_lab") as visitor:
        opened = visitor.run(address + "removal:attribution,share=0.01")
        used = psutil.Process(server.pid).memory_info()
        clicks = {method: visitor.run(address + method) for method in NEW_METHODS}
        most = max(used, psutil.Process(server.pid).memory_info(), key=lambda memory: memory.rss)
    mapped = getattr(most, "shared", 0)  # pages of files, which the system takes back when it needs them
    each = ", ".join(f"{method} {run.seconds:.1f}" for method, run in clicks.items())
    note = (
        f"median of {len(clicks)} methods not seen before ({each} s), {sizes.queries:,} x {sizes.candidates:,} x {width:,}, "
        f"K {sizes.concepts[1]:,}; the first opening {opened.seconds:.1f} s; server {most.rss / 1e9:.2f} GB resident, "
        f"{mapped / 1e9:.2f} of them of mapped files"
    )
    return Row("pages", "lab_at_rest", rounded(statistics.median(run.seconds for run in clicks.values())), note=note)


def _growth_row(small: list[float], large: list[float], sizes: Sizes) -> Row:
    mine, other = statistics.median(large), statistics.median(small)
    note = f"median concept switch at K {sizes.concepts[1]:,}, N {sizes.n_samples:,}; ratio 1 = no growth"
    name = f"the same at K {sizes.concepts[0]:,}"
    case = "growth_concept_k1024_to_32768"
    return Row("pages", case, rounded(mine), name, rounded(other), round(other / mine, 3), note=note)


def _cold_start(cache: Path, is_demo: bool, sizes: Sizes) -> Row:
    """From the start of the process to the end of the first page's first run."""
    times, healthy, torch = [], [], []
    for _ in range(sizes.starts + 1):
        with Server(cache) as server, Visitor(server, "") as visitor:
            visitor.run()
            times.append(time.perf_counter() - server.started)
            healthy.append(server.healthy)
            torch.append(server.has_loaded("libtorch"))
    times, healthy = times[1:], healthy[1:]  # the first start reads the libraries from disk
    note = (
        f"process start to first page, median of {len(times)}, files in the system's cache, "
        f"{'demo stores' if is_demo else 'synthetic stores'}; server answers after {statistics.median(healthy):.2f} s; "
        f"torch {'loaded' if any(torch) else 'not loaded'}"
    )
    return Row("pages", "cold_start", rounded(statistics.median(times)), note=note)


def _live(cache: Path, demo: list[StoreRef], sizes: Sizes) -> Iterator[Row]:
    ref = next((ref for ref in demo if ref.backbone == LIVE_BACKBONE), None)
    if ref is None:
        note = f"no demo store of {LIVE_BACKBONE} under {cache.name}/: run `python -m analysis demo`"
        yield Row("pages", "upload_to_result", None, note=note)
        yield Row("pages", "mask_to_result", None, note=note)
        return
    with Server(cache) as server, Visitor(server, "live_query") as visitor:
        query = f"store={_name(open_store(ref.path))}&task=i2t&source=upload"
        opened = visitor.run(query)
        uploads, masks = [], []
        for number in range(sizes.uploads + 1):
            seconds, result = _upload(visitor, opened, query, number)
            uploads.append(seconds)
        png = decode_apart(_picture(sizes.uploads)).png  # the last one: a browser's address names it by now
        query += f"&upload={uploads_kept.identity(uploads_kept.reduced(png))}"
        for chosen in [("w/o image",), ("w/o instruction",), ()] * sizes.uploads:
            identifier, fragment = result.widget("_live_roles")
            clicked = visitor.run(query, widgets=(choice_widget(identifier, chosen),), fragment=fragment)
            masks.append(_showing(clicked, RESULT).seconds)
    first, warm = uploads[0], uploads[1:]
    yield Row(
        "pages", "upload_to_result", rounded(statistics.median(warm)),
        note=f"median of {len(warm)} pictures of 640 x 480, model loaded; the first, with loading, {first:.2f} s",
    )  # fmt: skip
    yield Row(
        "pages", "mask_to_result", rounded(statistics.median(masks)),
        note=f"median of {len(masks)} clicks on roles; p95 {1000 * p95(masks):.0f} ms; no second forward pass",
    )  # fmt: skip


def _upload(visitor: Visitor, opened: Run, query: str, number: int) -> tuple[float, Run]:
    """(seconds from the start of the transfer to the ranked lists, the run that showed them)."""
    identifier, _ = opened.widget("_live_upload")
    picture = _picture(number)
    start = time.perf_counter()
    state = visitor.upload(f"picture-{number}.png", picture)
    result = visitor.run(query, widgets=(file_widget(identifier, state),))
    return time.perf_counter() - start, _showing(result, RESULT)


def _showing(run: Run, words: str) -> Run:
    """The run, if it drew what it was asked for: an empty page would be a fast one."""
    if not run.shows(words):
        raise AnalysisError(f"A page of the app does not show {words!r}; open it to see why, or adapt PAGES here.")
    return run


def _picture(number: int) -> bytes:
    from PIL import Image

    coarse = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


def _live_concepts(store: Store, n: int, *, seed: int = 0) -> list[int]:
    """Some concepts that fire, frequent and rare."""
    alive = np.flatnonzero(store.concepts["frequency"].to_numpy() > 0)
    chosen = np.random.default_rng(seed).choice(alive, min(n, len(alive)), replace=False)
    return [int(concept) for concept in chosen]


def _name(store: Store) -> str:
    return f"{store.path.parent.name}/{store.path.name}"


def _size(store: Store) -> str:
    return f"K {store.n_concepts:,}, N {store.n_samples:,}, D {store.width}"
