"""Another backbone's store of the same data serves as an encoder of its own; a store of other data does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from analysis.build.rescore import rescore
from analysis.build.second import second_backbone
from analysis.store import open_store
from pages.components.concepts import belief
from tests.synthetic_store import BRIDGE, make_store


def test_samples_are_found_again_by_their_ids(tmp_path: Path) -> None:
    here = open_store(make_store(tmp_path, backbone="qwen2-vl-mini"))
    there = open_store(make_store(tmp_path, backbone="clip-mini", width=40))
    make_store(tmp_path, backbone="siglip2-mini", dataset="other")
    ids = here.samples["sample_id"].to_numpy()
    found = second_backbone(tmp_path, here.config, ids[::-1])
    assert found is not None
    assert found.backbone == "clip-mini"
    np.testing.assert_array_equal(found.vectors[found.position], there.embeddings()[::-1])
    assert second_backbone(tmp_path, here.config, np.array(["nobody"] * 4)) is None


def test_rescore_asks_the_second_encoder_where_there_is_one(tmp_path: Path) -> None:
    alone = make_store(tmp_path / "one")
    rescore(alone, everything=True, say=lambda text: None)
    assert open_store(alone).concepts["monosemanticity_second"].isna().all()
    path = make_store(tmp_path / "two", backbone="qwen2-vl-mini")
    make_store(tmp_path / "two", backbone="clip-mini")  # the same embeddings: what it says is what the first says
    rescore(path, everything=True, say=lambda text: None)
    table = open_store(path).concepts
    assert table["monosemanticity"].notna().any()
    np.testing.assert_allclose(table["monosemanticity_second"], table["monosemanticity"], atol=1e-5)


def test_a_contrastive_store_says_what_it_would_call_a_concept(tmp_path: Path) -> None:
    """Same embeddings, so it sees what is planted: the word of the dog concept stands first, and the page says so."""
    path = make_store(tmp_path, backbone="qwen2-vl-mini", n_pairs=90)
    rescore(path, everything=True, say=lambda text: None)
    assert (open_store(path).concepts["second_word"] == "").all(), "nobody to ask"
    make_store(tmp_path, backbone="clip-mini", n_pairs=90)
    rescore(path, everything=True, say=lambda text: None)
    row = open_store(path).concepts.iloc[BRIDGE]
    assert (row["name"], row["second_word"], row["second_model"]) == ("dog", "dog", "clip-mini")
    assert row["word_second"] == 1
    assert belief.second_sentence(row, None) == (
        "A second model (clip-mini) agrees: of all words **dog** fits best what it fires on."
    )


def test_a_store_that_is_not_contrastive_is_not_asked_for_words(tmp_path: Path) -> None:
    path = make_store(tmp_path, backbone="clip-mini", n_pairs=90)
    make_store(tmp_path, backbone="qwen2-vl-mini", n_pairs=90)
    rescore(path, everything=True, say=lambda text: None)
    table = open_store(path).concepts
    assert table["monosemanticity_second"].notna().any()
    assert table["word_second"].isna().all()
    assert (table["second_word"] == "").all()
