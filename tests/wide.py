"""A table of `evaluate` with one row a method, which reads better beside what pages and commands print."""

from __future__ import annotations

import pandas as pd

NAMES = {"recall": "R", "difference": "difference"}


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """Columns method, spec, and for each k: R@k, R@k_low, R@k_high, difference@k (and _low, _high), band@k_low, band@k_high."""
    found = table[["method", "spec"]].drop_duplicates("spec").reset_index(drop=True)
    for k, rows in table.groupby("k"):
        rows = rows.drop_duplicates("spec").reset_index(drop=True)
        found[f"R@{k}"], found[f"R@{k}_low"], found[f"R@{k}_high"] = rows["recall"], rows["low"], rows["high"]
        for end in ("", "_low", "_high"):
            found[f"difference@{k}{end}"] = rows[f"difference{end}"]
        found[f"band@{k}_low"], found[f"band@{k}_high"] = rows["band_low"], rows["band_high"]
    return found
