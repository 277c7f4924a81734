"""Commands that give the numbers on screen without the app."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analysis import CACHE
from analysis.concepts.browse import RELEVANCE, Filters
from analysis.store import Store
from pages.components.shared import caching

if TYPE_CHECKING:
    from analysis.retrieval.interventions import Intervention

PYTHON = ".venv/bin/python"  # the project's environment: what a fresh shell finds from the project's folder
ANALYSIS = f"{PYTHON} -m analysis"
_FILTERS = {
    "--modality": "modality", "--loudest": "top_energy", "--frequency": "frequency", "--score": "score",
    "--percentile": "percentile", "--named": "named", "--density": "density", "--effect": "effect",
}  # fmt: skip


def cache() -> str:
    """` --cache DIR` where the app reads another folder than a fresh shell would."""
    shown = place(caching.cache_dir())
    return "" if shown == CACHE else f" --cache {shlex.quote(shown)}"


def stores() -> str:
    """The stores of the app's cache."""
    return f"{ANALYSIS} list{cache()}"


def notes() -> str:
    """Collections and findings."""
    return f"{ANALYSIS} notes list{cache()}"


def build(backbone: str = "", demo: bool = False) -> str:
    """The command that makes a store of a known model; without one, the whole demo or the store of a first real model."""
    made = f"build --backbone {backbone or 'qwen2-vl-7b'} --dataset PATH/TO/COCO"
    if demo:
        made = f"demo --model {backbone}" if backbone else "demo"
    return f"{ANALYSIS} {made}{cache()}"


def build_with(store: Store, variants: tuple[str, ...]) -> str:
    """The command that makes a store like this one with these poolings; where its data lies only its owner knows."""
    made_by, data = store.config["backbone"], store.config["data"]
    words = ["build", "--backbone", str(made_by["key"]), "--dataset", f"PATH/TO/{data['name']}"]
    words += ["--split", str(data["split"])] if data.get("split") else []
    words += ["--sae", place(caching.cache_dir() / store.config["sae"]["path"]), "--variants", ",".join(variants)]
    return f"{ANALYSIS} {shlex.join(words)}{cache()}"


def place(path: Path) -> str:
    """A folder as one types it: relative to the working directory where that is shorter."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def verify(path: Path) -> str:
    return f"{ANALYSIS} verify {shlex.quote(place(path))}"


def retrieve(
    store: Store, task: str, methods: tuple[Intervention, ...] = (), query: int | None = None, *, pool: str = "local"
) -> str:
    """Recall of a task with the given interventions, or one query's ranking."""
    parts = [f"{ANALYSIS} retrieve {shlex.quote(place(store.path))} --task {task}"]
    parts += [f"--method {shlex.quote(method.spec)}" for method in methods]
    parts += [] if pool == "local" else [f"--pool {pool}"]
    parts += [] if query is None else [f"--query {query}"]
    return " ".join(parts)


def twins(store: Store, other: Store) -> str:
    """Concepts of two stores that fire on the same samples, with the correlation of their activations."""
    return _python(
        f'a, b = open_store("{place(store.path)}"), open_store("{place(other.path)}"); '
        "rows = shared_rows(a.samples, b.samples); "
        "t = find_twins(a.codes[rows[0]], b.codes[rows[1]]); "
        "print(*zip(t.pairs.tolist(), t.correlation.round(3).tolist()), sep=chr(10))",
        "from analysis.concepts.twins import find_twins, shared_rows; ",
    )


def bridges(store: Store, by: str, *, apart: bool = False, of: int | None = None) -> str:
    """The strongest bridges (Eq. 5), by "bridge" or by "excess" over the permutation null."""
    return _python(
        f'b = open_store("{place(store.path)}").bridges; '
        f'print(strongest(b, "{by}", apart={apart}, of={of}).head(100).to_string())',
        "from analysis.concepts.bridges import strongest; ",
    )


def concept_effects(store: Store, task: str = "") -> str:
    """What the removal of each concept alone does to recall: measured, kept with the store and printed."""
    tasks = f" --tasks {task}" if task else ""
    return f"{ANALYSIS} concept-effects {shlex.quote(place(store.path))}{tasks}"


def results(store: Store, task: str) -> str:
    """Recall of the standard methods as measured when the store was built."""
    return _python(f'print(open_store("{place(store.path)}").results("{task}").to_string())')


def concept_row(store: Store, concept: int) -> str:
    """All scores of one concept."""
    return _python(f'print(open_store("{place(store.path)}").concepts.loc[{concept}])')


def concept_examples(store: Store, concept: int) -> str:
    """The samples on which a concept fires, strongest first."""
    return _python(
        f's = open_store("{place(store.path)}"); rows, values = s.postings.rows({concept}); '
        'print(s.samples.loc[rows, ["sample_id", "modality", "text"]].assign(value=values))'
    )


@dataclass(frozen=True)
class Listed:
    """A list of concepts as on screen. example: options that name what they fire on; only: ids chosen in a picture, in
    their order; skip: concepts of the pages before."""

    filters: Filters
    sort: str = "energy"
    ascending: bool = False
    example: Mapping[str, str] = field(default_factory=dict)
    only: np.ndarray | None = None
    skip: int = 0


def concepts(store: Store, listed: Listed) -> str:
    """The list of concepts with its search, filters, order and page."""
    filters, plain = listed.filters, Filters()
    words = ["concepts", place(store.path)]
    words += ["--search", filters.words] if filters.words else []
    for option, name in _FILTERS.items():
        value = getattr(filters, name)
        if value != getattr(plain, name):
            words += [option, *(str(part) for part in (value if isinstance(value, tuple) else (value,)))]
    words += [] if filters.alive else ["--dead"]
    words += ["--sort", listed.sort] if listed.sort != (RELEVANCE if filters.words else "energy") else []
    words += ["--ascending"] if listed.ascending else []
    words += [part for pair in listed.example.items() for part in pair]
    words += [] if listed.only is None else ["--only", ",".join(map(str, listed.only.tolist()))]
    words += ["--skip", str(listed.skip)] if listed.skip else []
    words += ["--labels-of", caching.whose()] if caching.whose() else []
    return f"{ANALYSIS} {shlex.join(words)}{cache()}"


def modality_density(store: Store, weighting: str) -> str:
    """Density of the modality scores (Eq. 4), by concepts or by energy, constant concepts left out."""
    return _python(
        f'print(*zip(*curve_of(open_store("{place(store.path)}").concepts, "{weighting}")), sep="\\n")',
        "from analysis.concepts.kde import curve_of; ",
    )


def cumulative_energy(store: Store) -> str:
    """Share of the energy (Eq. 3) in the n strongest concepts, n = 1..K."""
    return _python(
        f'print(*cumulative_energy(open_store("{place(store.path)}").concepts["energy"].to_numpy()), sep="\\n")',
        "from analysis.concepts.metrics import cumulative_energy; ",
    )


def overlap(store: Store, share: float, bridge: str) -> str:
    """Jaccard overlap (Eq. 7) of the top concepts by energy, attribution and bridge; `share` is a share of K."""
    return _python(
        f'c = open_store("{place(store.path)}").concepts; '
        f'e, a, b = [top_concepts(c[x].to_numpy(), {share:g}) for x in ("energy", "attribution", "{bridge}")]; '
        "print(jaccard(e, a), jaccard(e, b), jaccard(a, b), jaccard(e, a, b))",
        "from analysis.concepts.metrics import jaccard, top_concepts; ",
    )


def deck(collection: str, kind: str = "html", *, dark: bool = False, notes: bool = False) -> str:
    """A collection of findings as slides in a file of some kind."""
    flags = (" --dark" if dark and kind != "pptx" else "") + (" --notes" if notes and kind == "html" else "")
    return f"{ANALYSIS} deck --collection {shlex.quote(collection)} --out deck.{kind}{flags}{cache()}"


def reproduce(store: Store, kind: str = "md") -> str:
    """Every published number beside the one of a store."""
    return f"{ANALYSIS} reproduce --store {shlex.quote(place(store.path))} --format {kind}"


def _python(body: str, imports: str = "") -> str:
    return f"{PYTHON} -c {shlex.quote(f'from analysis.store import open_store; {imports}{body}')}"
