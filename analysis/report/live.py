"""The numbers of a pinned view: measured when it is pinned, and again when somebody asks whether they still hold.

`Finding.measure` says how: {"what": one of MEASURES, "stores": ids, "names": how they are called, ...settings}. It is data,
never code: notes come from other people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from analysis.concepts.metrics import TEXT_FROM, cumulative_energy
from analysis.errors import AnalysisError, StoreError
from analysis.report.reproduce import overlap_row
from analysis.report.slides import ReportError
from analysis.retrieval.evaluation.lab import Lab, Measured
from analysis.retrieval.evaluation.movement import movement
from analysis.retrieval.interventions.intervention import BASE, Intervention, parse
from analysis.retrieval.task import space_from_store
from analysis.store.finding import Finding, compare, store_digest
from analysis.store.read import Store, StoreRef, find_stores, open_store

Facts = dict[str, float]


class Sources(Protocol):
    """Where stores and rankings come from: a folder, or the caches of the app."""

    def refs(self) -> list[StoreRef]: ...
    def open(self, ref: StoreRef) -> Store: ...
    def measured(self, store: Store, task: str, method: Intervention, pool: str) -> Measured: ...


class Folder:
    """The stores of a cache folder, or some that are open already."""

    def __init__(self, cache: str | Path = "cache", *, stores: Sequence[Store] = ()) -> None:
        self._opened = {store.path: store for store in stores}
        given = [StoreRef(s.path, s.backbone, s.dataset, s.label, "", s.manifest.created) for s in stores]
        self._refs = given or find_stores(cache)
        self._lab = lru_cache(maxsize=2)(self._new_lab)

    def refs(self) -> list[StoreRef]:
        return self._refs

    def open(self, ref: StoreRef) -> Store:
        if not ref.ok:
            raise StoreError(ref.problem)
        if ref.path not in self._opened:
            self._opened[ref.path] = open_store(ref.path)
        return self._opened[ref.path]

    def _new_lab(self, path: Path, task: str, pool: str) -> Lab:
        return Lab(space_from_store(self._opened.get(path) or open_store(path), task, pool))

    def measured(self, store: Store, task: str, method: Intervention, pool: str) -> Measured:
        return self._lab(store.path, task, pool).measure(method)


def facts_of(measure: Mapping[str, Any], sources: Sources) -> Facts:
    """Name -> number, recalls in percent; {} for a view without a measure. ReportError for what is no measure, StoreError
    for a store that is not there."""
    if not measure:
        return {}
    try:
        make = MEASURES[measure["what"]]
        stores = list(measure["stores"])
        names = dict(zip(stores, measure.get("names", stores), strict=True))
    except (KeyError, TypeError, ValueError) as error:
        raise ReportError(
            f"A finding says in no known way how it was measured ({error!r}); pin its view again."
        ) from error
    found: Facts = {}
    for identity in stores:
        store = sources.open(_ref(str(identity), sources.refs()))
        try:
            numbers = make(measure, store, sources)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ReportError(
                f"{store.label} does not hold what this view measures ({error!r}); pin the view again."
            ) from error
        of = f" of {names[identity]}" if len(stores) > 1 else ""
        found |= {f"{name}{of}": round(float(value), 6) for name, value in numbers.items() if not np.isnan(value)}
    return found


def measured_now(finding: Finding, sources: Sources) -> Finding | None:
    """The finding with the facts and the stores of now; without those of its stores that are gone, None where all are. A
    store that was built again is the one of the same model and data."""
    refs = sources.refs()
    stores: dict[str, str] = {}
    instead: dict[str, str] = {}
    for identity in finding.stores:
        try:
            ref = _ref(identity, refs)
            stores[identity] = store_digest(sources.open(ref))
            instead[identity] = _identity(ref)
        except AnalysisError:
            continue
    if finding.stores and not stores:
        return None
    if len(stores) < len(finding.stores):
        return replace(finding, stores=stores)
    used = finding.measure.get("stores", ())
    measure = {
        **finding.measure, "stores": [instead.get(name, name) for name in used],
        "names": finding.measure.get("names", used),
    }  # fmt: skip
    facts = facts_of(measure, sources) if finding.measure else finding.facts
    return replace(finding, stores=stores, facts=facts)


def then_and_now(finding: Finding, sources: Sources) -> str:
    """What has changed since it was pinned, in one sentence; "" where nothing has."""
    try:
        return compare(finding, measured_now(finding, sources))
    except AnalysisError as error:
        return f"Its numbers cannot be measured now: {error} What is shown is what was measured then."


def _ref(identity: str, refs: list[StoreRef]) -> StoreRef:
    """The store of an id, else the one store of the same model and data that opens."""
    for ref in refs:
        if _identity(ref) == identity and ref.ok:
            return ref
    backbone, _, name = identity.partition("/")
    same = [ref for ref in refs if ref.ok and (ref.backbone, ref.dataset) == (backbone, name.rpartition("-")[0])]
    if len(same) != 1:
        raise StoreError(
            f"There is no store {identity!r} here; `.venv/bin/python -m analysis list` shows what there is."
        )
    return same[0]


def _identity(ref: StoreRef) -> str:
    return f"{ref.path.parent.name}/{ref.path.name}"


# --- measures -----------------------------------------------------------------------------------------------------
def _modality(how: Mapping[str, Any], store: Store, _: Sources) -> Facts:
    """Text concepts: those with a modality score above `how["above"]`, or from `how["from"]` on."""
    low, word = (float(how["above"]), "above") if "above" in how else (float(how.get("from", TEXT_FROM)), "from")
    score, energy = (store.concepts[name].to_numpy(float) for name in ("modality_score", "energy"))
    live, known = ~np.isnan(score), np.nan_to_num(score)
    text = known > low if word == "above" else known >= low
    return {
        f"live concepts with a score {word} {low:g} (%)": 100 * text.sum() / max(1, live.sum()),
        "energy in them (%)": 100 * energy[text].sum() / max(energy.sum(), 1e-300),
    }


def _energy(_how: Mapping[str, Any], store: Store, _: Sources) -> Facts:
    shares = cumulative_energy(store.concepts["energy"].to_numpy())
    return {
        f"concepts that hold {level} % of the energy": int((shares < level / 100 - 1e-12).sum()) + 1
        for level in (50, 90)
    }


def _overlap(how: Mapping[str, Any], store: Store, _: Sources) -> Facts:
    return overlap_row(store, share=float(how.get("share", 0.01)), reduction=str(how.get("reduction", "max")))


def _results(how: Mapping[str, Any], store: Store, _: Sources) -> Facts:
    """What was measured when the store was built."""
    table = store.results(str(how["task"]))
    rows = table[(table["k"] == int(how.get("k", 10))) & table["method"].isin(list(how["methods"]))]
    return {f"R@{row.k} of {row.method}": 100 * float(row.recall) for row in rows.itertuples()}


def _recall(how: Mapping[str, Any], store: Store, sources: Sources) -> Facts:
    k, definition, pool = int(how.get("k", 10)), str(how.get("definition", "hit")), str(how.get("pool", "local"))
    found = {}
    for method in (parse(str(spec)) for spec in how["methods"]):
        hits = sources.measured(store, str(how["task"]), method, pool).hits([k], definition)
        found[f"R@{k} of {method.label}"] = 100 * float(hits.mean())
    return found


def _ranks(how: Mapping[str, Any], store: Store, sources: Sources) -> Facts:
    """Rank of the best target of one query before and after a method."""
    pool, task = str(how.get("pool", "local")), str(how["task"])
    before, after = (sources.measured(store, task, m, pool).ranks[0] for m in (BASE, parse(str(how["method"]))))
    row = movement(before, after, int(how.get("k", 10))).iloc[int(how["query"])]
    return {f"rank of the best target {side}": float(row[side]) for side in ("before", "after")}


def _concept(how: Mapping[str, Any], store: Store, _: Sources) -> Facts:
    row = store.concepts.loc[int(how["concept"])]
    return {
        "modality score": float(row["modality_score"]),
        "fires on (% of samples)": 100 * float(row["frequency"]),
        "energy": float(row["energy"]),
        "attribution": float(row["attribution"]),
    }


MEASURES: dict[str, Callable[[Mapping[str, Any], Store, Sources], Facts]] = {
    "modality": _modality, "energy": _energy, "overlap": _overlap, "results": _results, "recall": _recall, "ranks": _ranks,
    "concept": _concept,
}  # fmt: skip
