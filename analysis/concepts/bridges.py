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

__all__ = [
    "REDUCTIONS", "Bridge", "Meeting", "bridge_all", "bridge_between", "bridge_pairs", "bridge_score", "bridges", "check_pairs",
    "meeting", "strongest",
]  # fmt: skip

REDUCTIONS = ("max", "diagonal", "off_diagonal", "abs_sum")
NULL_QUANTILE = 0.999


@dataclass(frozen=True)
class Bridge:
    """One number per concept, (K,) float64, and its strongest partner, (K,) int64.

    partner_i is the concept on the other side with which i has its largest positive entry of B, -1 where it has none.
    """

    score: np.ndarray
    partner: np.ndarray


@dataclass(frozen=True)
class Meeting:
    """Where an image concept and a text concept meet: positions of the pairs (n,) on whose picture the one fires and on whose
    caption the other, the strongest product first; on how many of the pairs each fires."""

    both: np.ndarray
    image: int
    text: int
    pairs: int

    @property
    def share(self) -> float:
        """Of the pairs on whose picture the image concept fires, the share whose caption the text concept fires on."""
        return len(self.both) / self.image if self.image else float("nan")

    @property
    def usual(self) -> float:
        """The same share over all pairs: what it would be if the two had nothing to do with each other."""
        return self.text / self.pairs if self.pairs else float("nan")


def meeting(image_values: np.ndarray, text_values: np.ndarray) -> Meeting:
    """image_values, text_values (P,): activation of the image concept on each pair's picture, of the text concept on its
    caption."""
    product = np.asarray(image_values, np.float64) * np.asarray(text_values, np.float64)
    both = np.flatnonzero(product > 0)
    both = both[np.argsort(-product[both], kind="stable")]
    return Meeting(both, int((image_values > 0).sum()), int((text_values > 0).sum()), len(product))


def strongest(table: pd.DataFrame, by: str, *, apart: bool = False, of: int | None = None) -> pd.DataFrame:
    """Bridges by "bridge" or "excess", strongest first; by "excess" those that exceed their null. apart: without those of
    a concept to itself; of: those of one concept, on either side."""
    found = table[table["excess"] > 0] if by == "excess" else table
    if apart:
        found = found[found["image_concept"] != found["text_concept"]]
    if of is not None:
        found = found[(found["image_concept"] == of) | (found["text_concept"] == of)]
    return found.sort_values(by, ascending=False, kind="stable")


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


def bridge_between(
    codes_image: Codes,
    codes_text: Codes,
    dictionary: np.ndarray,
    image_concept: int,
    text_concept: int,
    *,
    groups: np.ndarray | None = None,
) -> pd.DataFrame:
    """The row of `bridge_pairs` for two given concepts, however weak their bridge is."""
    image, text = codes_image.activation(image_concept), codes_text.activation(text_concept)
    cosine = float(np.asarray(dictionary[image_concept], np.float64) @ np.asarray(dictionary[text_concept], np.float64))
    coactivation = float((image * text).mean()) if len(image) else 0.0
    table = pd.DataFrame(
        {
            "image_concept": [image_concept], "text_concept": [text_concept], "coactivation": [coactivation],
            "cosine": [cosine], "bridge": [coactivation * cosine],
        }
    )  # fmt: skip
    return _with_null(table, codes_image, codes_text, None, NULL_QUANTILE, groups)


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
