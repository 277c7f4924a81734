"""Commands that give the numbers on screen without the app."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.store import Store

if TYPE_CHECKING:
    from analysis.retrieval.interventions import Intervention

LIST = "python -m analysis list"
DEMO = "python -m analysis demo"
NOTES = "python -m analysis notes list"
BUILD = "python -m analysis build --backbone qwen2-vl-7b --dataset PATH/TO/COCO"


def build(backbone: str, demo: bool) -> str:
    """The command that makes a store of a known model."""
    return DEMO if demo else f"python -m analysis build --backbone {backbone} --dataset PATH/TO/COCO"


def place(path: Path) -> str:
    """A folder as one types it: relative to the working directory where that is shorter."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def verify(path: Path) -> str:
    return f"python -m analysis verify {shlex.quote(place(path))}"


def retrieve(
    store: Store, task: str, methods: tuple[Intervention, ...] = (), query: int | None = None, *, pool: str = "local"
) -> str:
    """Recall of a task with the given interventions, or one query's ranking."""
    parts = [f"python -m analysis retrieve {shlex.quote(place(store.path))} --task {task}"]
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


def concept_effects(store: Store, task: str = "") -> str:
    """What the removal of each concept alone does to recall: measured, kept with the store and printed."""
    tasks = f" --tasks {task}" if task else ""
    return f"python -m analysis concept-effects {shlex.quote(place(store.path))}{tasks}"


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


def concepts_table(store: Store, sort: str, ascending: bool) -> str:
    """The table of concepts, sorted as on screen."""
    by = f'"{sort}", ascending={ascending}'
    return _python(f'print(open_store("{place(store.path)}").concepts.sort_values({by}).head(50).to_string())')


def modality_density(store: Store, weighting: str) -> str:
    """Density of the modality scores (Eq. 4), by concepts or by energy."""
    weights = ', weights=c["energy"].to_numpy()' if weighting == "energy" else ""
    return _python(
        f'c = open_store("{place(store.path)}").concepts; '
        f'print(*zip(*modality_density(c["modality_score"].to_numpy(){weights})), sep="\\n")',
        "from analysis.concepts.kde import modality_density; ",
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


def deck(collection: str) -> str:
    """A collection of findings as slides."""
    return f"python -m analysis deck --collection {shlex.quote(collection)} --out deck.html"


def reproduce(store: Store, kind: str = "md") -> str:
    """Every published number beside the one of a store."""
    return f"python -m analysis reproduce --store {shlex.quote(place(store.path))} --format {kind}"


def _python(body: str, imports: str = "") -> str:
    return f"python -c {shlex.quote(f'from analysis.store import open_store; {imports}{body}')}"
