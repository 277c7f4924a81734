"""Codes of every token of a bounded set of samples: heatmaps without a model, and the other way to make a sample's code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.build.extraction import Extraction, OpenBackbone, Progress
from analysis.build.score import PairRows
from analysis.sae.checkpoint import Sae
from analysis.sae.codes import Codes
from analysis.sae.encode import decode, encode
from analysis.sae.quality import reconstruction
from analysis.store.write import StoreWriter


def write_token_views(
    writer: StoreWriter,
    extraction: Extraction,
    sae: Sae,
    opened: OpenBackbone,
    rows: PairRows,
    *,
    count: int,
    progress: Progress,
) -> dict[str, Any]:
    """Write tokens/ for up to `count` samples and return what is worth noting about them. A dual encoder whose tokens are
    not as wide as its embeddings has no views."""
    chosen = choose_rows(rows, count)
    if not len(chosen):
        return {}
    entries, roles, states = [], [], []
    start = 0
    for place, view in opened.get().stream_tokens(extraction.samples(chosen), on_error="skip"):
        if view.states.shape[1] != sae.width:
            continue
        real = view.roles > 0
        length = int(real.sum())
        entries.append(
            {
                "row": int(chosen[place]),
                "start": start,
                "length": length,
                "grid_rows": view.grid[0] if view.grid else 0,
                "grid_columns": view.grid[1] if view.grid else 0,
                "cells": (np.cumsum(real)[view.cells] - 1).astype(np.int32) if view.cells is not None else [],
                "box": view.box,
                "strings": [s for s, keep in zip(view.strings, real, strict=True) if keep],
            }
        )
        roles.append(view.roles[real].astype(np.int8))
        states.append(view.states[real].astype(np.float32))
        start += length
        progress("token views", len(entries), len(chosen))
    if not entries:
        return {}
    tokens = np.concatenate(states)
    codes = encode(sae, tokens)
    writer.table("tokens/index.parquet", pd.DataFrame(entries))
    writer.array("tokens/roles.npy", np.concatenate(roles))
    writer.array("tokens/indices.npy", codes.indices)
    writer.array("tokens/values.npy", codes.values)
    return {
        "samples": len(entries),
        "tokens": int(start),
        "r2_tokens": _rounded(reconstruction(sae, tokens, codes).r2_per_dimension),
        "r2_encode_then_pool": _rounded(_r2_encode_then_pool(sae, states, codes)),
    }


def choose_rows(rows: PairRows, count: int) -> np.ndarray:
    """Up to `count` samples: half of them images, then the first text of each image, then image + text samples."""
    images = rows.images[: count // 2] if len(rows.texts) or len(rows.both) else rows.images[:count]
    texts = (
        rows.pair_text[np.sort(np.unique(rows.pair_image, return_index=True)[1])] if len(rows.pair_text) else rows.texts
    )
    texts = texts[: count - len(images)]
    return np.concatenate([images, texts, rows.both[: count - len(images) - len(texts)]]).astype(np.int64)


def _r2_encode_then_pool(sae: Sae, states: list[np.ndarray], codes: Codes) -> float:
    """R² of the pooled vector from the mean of its tokens' codes (per-dimension mean): the other sample code."""
    pooled = np.stack([state.mean(axis=0) for state in states])
    lengths = np.asarray([len(state) for state in states])
    owner = np.repeat(np.arange(len(states)), lengths)
    estimate = np.zeros_like(pooled)
    np.add.at(estimate, owner, decode(sae, codes))
    estimate /= lengths[:, None]
    total = float(((pooled - pooled.mean(axis=0)) ** 2).sum())
    return 1 - float(((pooled - estimate) ** 2).sum()) / total if total > 0 else float("nan")


def _rounded(value: float) -> float | None:
    return None if value != value else round(value, 4)
