"""Bridges between image concepts and text concepts (paper eq. 5): B = E_pairs[z_image^T z_text] * (D D^T), K x K.

The paper needs one number per concept and does not say how. Row sums plus column sums of B are the attribution score,
so a full sum would make the overlap of the two sets 1; the reductions here are different functions and their name
stands beside every number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.concepts.bridge_scan import Scan, check_pairs, scan_bridges
from analysis.errors import DataError
from analysis.sae.codes import Codes

__all__ = ["REDUCTIONS", "Bridge", "bridge_all", "bridge_pairs", "bridge_score", "bridges", "check_pairs"]

REDUCTIONS = ("max", "diagonal", "off_diagonal", "abs_sum")
NULL_QUANTILE = 0.999


@dataclass(frozen=True)
class Bridge:
    """One number per concept, (K,) float64, and its strongest partner, (K,) int64.

    partner_i is the concept on the other side with which i has its largest positive entry of B, -1 where it has none.
    """

    score: np.ndarray
    partner: np.ndarray


def bridge_score(codes_image: Codes, codes_text: Codes, dictionary: np.ndarray, *, reduction: str = "max") -> Bridge:
    """One bridge score per concept over N pairs.

    "max": the larger of row maximum and column maximum of B, at least 0; "diagonal": B_ii, the same concept on both
    sides; "off_diagonal": A_i - 2 B_ii with A the attribution; "abs_sum": mean of the row sum and the column sum of |B|.
    codes row by row are pairs; dictionary (K, D). Raises DataError for an unknown reduction or sides that are no pairs.
    """
    if reduction not in REDUCTIONS:
        raise DataError(f"reduction is {reduction!r}; expected one of {', '.join(REDUCTIONS)}.")
    return bridge_all(codes_image, codes_text, dictionary)[reduction]


def bridge_all(codes_image: Codes, codes_text: Codes, dictionary: np.ndarray) -> dict[str, Bridge]:
    """Every reduction from one pass over B: name -> Bridge."""
    return _reductions(scan_bridges(codes_image, codes_text, dictionary))


def bridge_pairs(
    codes_image: Codes,
    codes_text: Codes,
    dictionary: np.ndarray,
    *,
    n: int = 1000,
    null_seeds: Sequence[int] | None = None,
    quantile: float = NULL_QUANTILE,
    groups: np.ndarray | None = None,
) -> pd.DataFrame:
    """The n strongest entries of B, strongest first, beside what unpaired samples would give.

    Columns image_concept, text_concept, coactivation E[z_i z_j], cosine <D_i, D_j>, bridge (their product),
    null_quantile, excess = bridge - null_quantile. The null belongs to the pair: the `quantile` of its bridge over
    permutations of the images, see `bridge_null.null_coactivation` for null_seeds and groups. Two concepts that fire
    everywhere have a large bridge and no excess. Pairs are chosen by their bridge, so of K^2 pairs about
    (1 - quantile) K^2 exceed their own quantile by chance alone; read a small excess accordingly.
    """
    table = _table(scan_bridges(codes_image, codes_text, dictionary, n=n))
    return _with_null(table, codes_image, codes_text, null_seeds, quantile, groups)


def bridges(
    codes_image: Codes,
    codes_text: Codes,
    dictionary: np.ndarray,
    *,
    n: int = 1000,
    null_seeds: Sequence[int] | None = None,
    quantile: float = NULL_QUANTILE,
    groups: np.ndarray | None = None,
) -> tuple[dict[str, Bridge], pd.DataFrame]:
    """(bridge_all, bridge_pairs) from one pass over B instead of two."""
    scan = scan_bridges(codes_image, codes_text, dictionary, n=n)
    table = _with_null(_table(scan), codes_image, codes_text, null_seeds, quantile, groups)
    return _reductions(scan), table


def _reductions(scan: Scan) -> dict[str, Bridge]:
    by_row = scan.row_max >= scan.column_max
    partner = np.where(by_row, scan.row_partner, scan.column_partner)
    scores = {
        "max": np.where(by_row, scan.row_max, scan.column_max),
        "diagonal": scan.diagonal,
        "off_diagonal": scan.row + scan.column - 2 * scan.diagonal,
        "abs_sum": (scan.row_abs + scan.column_abs) / 2,
    }
    return {name: Bridge(score, partner) for name, score in scores.items()}


def _table(scan: Scan) -> pd.DataFrame:
    pairs = scan.pairs
    return pd.DataFrame(
        {
            "image_concept": pairs.image,
            "text_concept": pairs.text,
            "coactivation": pairs.coactivation,
            "cosine": pairs.bridge / pairs.coactivation,
            "bridge": pairs.bridge,
        }
    )


def _with_null(
    table: pd.DataFrame,
    codes_image: Codes,
    codes_text: Codes,
    seeds: Sequence[int] | None,
    quantile: float,
    groups: np.ndarray | None,
) -> pd.DataFrame:
    from analysis.concepts.bridge_null import null_coactivation

    i, j = table["image_concept"].to_numpy(), table["text_concept"].to_numpy()
    null = null_coactivation(codes_image, codes_text, i, j, quantile=quantile, seeds=seeds, groups=groups)
    table["null_quantile"] = table["cosine"] * null
    table["excess"] = table["bridge"] - table["null_quantile"]
    return table
