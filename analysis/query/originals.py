"""Pictures of a store's samples as its data set holds them: what the stored embeddings were made of."""

from __future__ import annotations

from pathlib import Path

from analysis.data.registry import load_pairs
from analysis.errors import DataError
from analysis.store import Store


def picture_files(store: Store) -> dict[str, Path]:
    """sample id -> file of every picture of the store that is at hand. Empty where the data set lies elsewhere, is not the
    one that was embedded (its revision tells), or keeps its pictures inside other files."""
    data = store.config["data"]
    try:
        pairs = load_pairs(data["name"], split=data["split"], cache=store.cache_dir)
    except DataError:  # a data set that was named by its path: the store does not know where
        return {}
    if pairs.revision != data["revision"]:
        return {}
    wanted = set(store.samples["sample_id"][store.samples["modality"] == "image"])
    return {
        sample.sample_id: sample.picture.path
        for sample in pairs.samples
        if sample.sample_id in wanted and sample.picture is not None and sample.picture.path is not None
    }
