"""Another backbone's embeddings of the same samples: an encoder that did not make the concepts it is asked about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from analysis.concepts.scores import Second
from analysis.errors import StoreError
from analysis.store.read import Store, open_base
from analysis.store.schema import MANIFEST

SHARED = 0.5  # of the samples that the other store must have, too
_DATA = ("name", "split", "revision")


def second_backbone(cache: Path, config: Mapping[str, Any], sample_ids: np.ndarray) -> Second | None:
    """Embeddings from the store of another backbone on the same data and split, contrastive ones first; None without one.

    config: of the store that asks; sample_ids (N,): its samples. A store that cannot be read serves nobody.
    """
    found: list[tuple[bool, float, int, Store, np.ndarray]] = []
    for manifest in sorted(cache.glob(f"*/*/{MANIFEST}")):
        try:
            other = open_base(manifest.parent)
            data, mine = other.config["data"], config["data"]
            if other.backbone == config["backbone"]["key"] or any(data.get(n) != mine.get(n) for n in _DATA):
                continue
            place = {name: row for row, name in enumerate(other.samples["sample_id"].to_numpy())}
            position = np.asarray([place.get(name, -1) for name in sample_ids])
            share = float((position >= 0).mean()) if len(position) else 0.0
            if share >= SHARED:
                found.append((not other.contrastive, -share, len(found), other, position))
        except StoreError:
            continue
    if not found:
        return None
    *_, other, position = min(found, key=lambda entry: entry[:3])
    return Second(other.mapped_embeddings(), position, other.backbone, other.contrastive)
