"""Figure 4: planted masks give the recalls that follow from them, and what leaves nothing out has no number."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.evaluation.masking import NOT_STORED, NOTHING, image_or_prompt, masked_methods, masking_table
from analysis.retrieval.task import RetrievalSpace

N = 60


def planted(prompt_matters: bool = True) -> RetrievalSpace:
    """Every query is its candidate; without what matters it is noise. Candidates are texts: they have no image tokens."""
    rng = np.random.default_rng(0)
    good, noise = np.eye(N, dtype=np.float32), rng.normal(size=(N, N)).astype(np.float32)
    queries = {"mean": good, "mean_no_image": 2 * good, "mean_no_prompt": noise}
    if not prompt_matters:
        queries |= {"mean_no_image": noise, "mean_no_prompt": 2 * good}
    candidates = {"mean": good, "mean_no_image": good, "mean_no_prompt": good}
    return RetrievalSpace(queries, candidates, sp.csr_array(np.eye(N)), task="it2t")


def test_each_mask_on_each_side_has_the_recall_that_was_planted() -> None:
    space = planted()
    table = masking_table(space, Lab(space).measure, k=1)
    rows = table.set_index(["side", "mask"])
    assert list(rows.index.get_level_values("side").unique()) == ["both sides", "queries", "candidates"]
    for side in ("both sides", "queries", "candidates"):
        assert rows.loc[(side, "base"), "recall"] == 1
        assert rows.loc[(side, "w/o instruction"), "why"] == NOT_STORED
    assert rows.loc[("queries", "w/o image"), ["recall", "difference", "why"]].tolist() == [1, 0, ""]
    lost = rows.loc[("both sides", "w/o prompt")]
    noise = space.queries["mean_no_prompt"]
    assert lost["recall"] == pytest.approx((noise.argmax(axis=1) == np.arange(N)).mean())
    assert lost["difference_low"] <= lost["difference"] <= lost["difference_high"] < 0
    for mask in ("w/o image", "w/o prompt"):
        row = rows.loc[("candidates", mask)]
        assert row["why"] == NOTHING
        assert np.isnan(row["recall"])


@pytest.mark.parametrize("prompt_matters", [True, False])
def test_the_prompt_beside_the_picture(prompt_matters: bool) -> None:
    space = planted(prompt_matters)
    pair = image_or_prompt(space, Lab(space).measure, k=1)
    assert pair is not None
    assert bool(pair["difference_high"] < 0) is prompt_matters
    assert bool(pair["difference_low"] > 0) is not prompt_matters


def test_without_one_of_the_masks_there_is_nothing_to_compare() -> None:
    space = planted()
    alone = RetrievalSpace({"mean": space.queries["mean"]}, {"mean": space.candidates["mean"]}, space.qrels)
    assert image_or_prompt(alone, Lab(alone).measure, k=1) is None
    assert masked_methods(alone.queries) == {}
    assert masking_table(alone, Lab(alone).measure, k=1)["recall"].notna().sum() == 3
