"""Every published number beside the one measured here, if any: two columns, never one. State, store and command tell how
to get what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from analysis.concepts.metrics import jaccard, top_concepts
from analysis.errors import AnalysisError
from analysis.report.published import published
from analysis.store.read import Store, find_stores, open_store

COLUMNS = (
    "table",
    "model",
    "setting",
    "dataset",
    "column",
    "published",
    "measured",
    "state",
    "store",
    "command",
    "source",
)
METHOD_OF = {"Base": "base", "Removal": "removal", "Mean pooling": "base", "Last token": "last token"}
KEY_OF = {"clip": "clip-vit-b32", "siglip2": "siglip2-b16-512"}


def reproduction_table(cache: str | Path = "cache") -> pd.DataFrame:
    """One row per published number of Tables 1 to 3.

    published and measured are in the paper's units (shares for Table 1, percent for the others); measured is NaN where no
    store of that backbone and kind of data is in the cache. state: "measured", "no store", "no such task" or the
    store's problem; command builds what is missing or recomputes what is there. A demo store never counts as a measurement
    of a published number: it holds another model.
    """
    stores = _stores(cache)
    rows = [_row(row, stores) for _, row in published().iterrows()]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def overlap_row(store: Store, *, share: float = 0.01, reduction: str = "max") -> dict[str, float]:
    """Table 1 of a store: Jaccard similarity of the top `share` concepts by energy (E), attribution (A), bridge (B)."""
    table = store.concepts
    energy, attribution, bridge = (
        top_concepts(table[name].to_numpy(), share) for name in ("energy", "attribution", f"bridge_{reduction}")
    )
    return {
        "J(E, A)": jaccard(energy, attribution),
        "J(E, B)": jaccard(energy, bridge),
        "J(A, B)": jaccard(attribution, bridge),
        "triple": jaccard(energy, attribution, bridge),
    }


def _row(number: pd.Series, stores: dict[str, list[Store]]) -> dict[str, object]:
    key = KEY_OF.get(number["backbone"], number["backbone"])
    found = {
        "table": number["table"],
        "model": number["model"],
        "setting": number["setting"],
        "dataset": number["dataset"],
        "column": number["column"],
        "published": number["value"],
        "measured": float("nan"),
        "store": "",
        "source": number["source"],
    }
    build = f"python -m analysis build --backbone {key} --dataset /path/to/{str(number['dataset']).lower()}"
    candidates = [store for store in stores.get(key, []) if _fits(store, number)]
    if not candidates:
        return {**found, "state": "no store", "command": build}
    store = candidates[-1]
    try:
        value, command = _measured(store, number)
    except AnalysisError as error:
        return {**found, "state": str(error), "store": store.name, "command": build}
    return {**found, "measured": value, "state": "measured", "store": store.name, "command": command}


def _measured(store: Store, number: pd.Series) -> tuple[float, str]:
    if number["table"] == "table1":
        return overlap_row(store)[number["column"]], f"python -m analysis reproduce --cache {store.cache_dir}"
    task = str(number["task"])
    results = store.results(task)
    k = int(str(number["column"]).removeprefix("R@"))
    method = METHOD_OF[number["setting"]]
    hit = results[(results["method"] == method) & (results["k"] == k)]
    if hit.empty:
        raise AnalysisError(f"no result of {method!r}")
    spec = hit["spec"].iloc[0]
    return 100 * float(
        hit["recall"].iloc[0]
    ), f"python -m analysis retrieve {store.path} --task {task} --method '{spec}'"


def _fits(store: Store, number: pd.Series) -> bool:
    if number["table"] == "table1":
        return True
    task = str(number["task"])
    return task in store.tasks and str(number["dataset"]).lower().removeprefix("ms") in store.dataset.lower()


def _stores(cache: str | Path) -> dict[str, list[Store]]:
    """Stores of the published models by backbone key; demo stores are left out."""
    found: dict[str, list[Store]] = {}
    for store in _opened(cache):
        if not store.is_demo:
            found.setdefault(store.backbone, []).append(store)
    return found


def _opened(cache: str | Path) -> Iterable[Store]:
    return (open_store(ref.path) for ref in find_stores(cache) if ref.ok)
