"""The masks of the paper's Figure 4: each of them on queries, on candidates and on both sides, beside the base."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import pandas as pd

from analysis.retrieval.evaluation.evaluate import recall_frame
from analysis.retrieval.evaluation.lab import Measured
from analysis.retrieval.interventions import BASE, Intervention, Pool
from analysis.retrieval.interventions.pool import VARIANT_LABELS
from analysis.retrieval.task import RetrievalSpace

MASKS = ("mean_no_image", "mean_no_prompt", "mean_no_instruction")
SIDES = {"both sides": ("queries", "candidates"), "queries": ("queries",), "candidates": ("candidates",)}
NOTHING, NOT_STORED = "no such tokens", "not stored"  # why a mask has no number
LOOKED_AT = 256  # rows of a side, to see whether a mask leaves out anything of it


def masked(variant: str, side: str) -> Intervention:
    """A mask on one of SIDES."""
    return Intervention((Pool(**dict.fromkeys(SIDES[side], variant)),))


def masked_methods(variants: Collection[str]) -> dict[tuple[str, str], Intervention]:
    """(side, variant) -> intervention, of the masks among the stored variants."""
    return {(side, variant): masked(variant, side) for side in SIDES for variant in MASKS if variant in variants}


def leaves_out(space: RetrievalSpace, side: str, variant: str) -> bool:
    """Whether a stored mask changes any embedding of "queries" or "candidates": texts have no image tokens to leave out. Looks
    at LOOKED_AT rows."""
    n = space.n_queries if side == "queries" else space.n_candidates
    chosen = np.unique(np.linspace(0, n - 1, min(n, LOOKED_AT)).astype(np.int64))

    def some(name: str) -> np.ndarray:
        return np.asarray(
            space.rows(side, name)[chosen] if space.read_rows is None else space.read_rows(side, name, chosen)
        )

    return not np.array_equal(some("mean"), some(variant))


def masking_table(
    space: RetrievalSpace, measured: Callable[[Intervention], Measured], *, k: int, definition: str = "hit"
) -> pd.DataFrame:
    """One row a side and a mask, the base first.

    Columns: side, mask (as people read it), spec, recall, low, high (95 % bootstrap over queries), difference,
    difference_low, difference_high (paired with the base), why (NOTHING where the mask leaves nothing out of that side,
    NOT_STORED where the store has no such embeddings; the numbers are NaN then). Shares in [0, 1].
    measured: an intervention -> its ranks.
    """
    methods = masked_methods(tuple(space.queries))
    acts = {
        (side, variant): leaves_out(space, side, variant)
        for side in SIDES["both sides"]
        for variant in MASKS
        if variant in space.queries
    }
    asked = {
        (side, variant): method
        for (side, variant), method in methods.items()
        if any(acts[part, variant] for part in SIDES[side])
    }
    base = measured(BASE)
    specs = list(dict.fromkeys([BASE, *asked.values()]))
    numbers = recall_frame(base, [measured(method) for method in specs], ks=[k], definition=definition)
    by_spec = numbers.set_index("spec")[
        ["recall", "low", "high", "difference", "difference_low", "difference_high"]
    ].to_dict("index")
    rows = []
    for side in SIDES:
        rows.append({"side": side, "mask": BASE.label, "spec": BASE.spec, **by_spec[BASE.spec], "why": ""})
        for variant in MASKS:
            method = masked(variant, side)
            why = "" if (side, variant) in asked else NOTHING if variant in space.queries else NOT_STORED
            found = by_spec[method.spec] if not why else dict.fromkeys(by_spec[BASE.spec], float("nan"))
            rows.append({"side": side, "mask": VARIANT_LABELS[variant], "spec": method.spec, **found, "why": why})
    return pd.DataFrame(rows)


def image_or_prompt(
    space: RetrievalSpace, measured: Callable[[Intervention], Measured], *, k: int, definition: str = "hit"
) -> pd.Series | None:
    """Recall without the prompt minus recall without the image, on both sides (`difference`, with its paired interval): below
    0, the prompt carries more of retrieval than the picture, as the paper's Figure 4 says. None where one of the masks is
    not stored or leaves nothing out."""
    for variant in MASKS[:2]:
        if variant not in space.queries or not any(leaves_out(space, side, variant) for side in SIDES["both sides"]):
            return None
    image, prompt = (measured(masked(variant, "both sides")) for variant in MASKS[:2])
    return recall_frame(image, [prompt], ks=[k], definition=definition).iloc[0]
