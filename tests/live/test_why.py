"""The bars of the why-panel add up, and say no where similarities do not split."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.live.lab import Lab
from analysis.live.ranking import Comparison
from analysis.live.why import explain, explains
from analysis.retrieval.interventions import BASE, Intervention, parse
from analysis.retrieval.pipeline import fit
from analysis.retrieval.spaces import space_from_store
from analysis.store import open_store
from tests.synthetic_store import make_store

LINEAR = ("base", "removal:attribution,share=0.1", "removal:attribution,share=0.1,r=2", "pool:last", "pca:n=2",
          "pool:last+pca:n=3", "pool:last+removal:energy,share=0.1")  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(
        space_from_store(open_store(make_store(tmp_path_factory.mktemp("cache"), backbone="qwen2-vl-mini")), "i2t")
    )


def comparison(lab: Lab, after: Intervention, query: int) -> Comparison:
    return Comparison(lab.lists(BASE), lab.lists(after), lab.space.qrels, query)


@pytest.mark.parametrize("spec", LINEAR)
@pytest.mark.parametrize("query", [0, 7])
def test_bars_add_up_to_the_similarity_of_the_list(lab: Lab, spec: str, query: int) -> None:
    after = parse(spec)
    found = explain(lab, comparison(lab, after, query), "after", after)
    fitted = fit(after, lab.space)
    for pair, candidate in ((found.target, found.target_candidate), (found.rival, found.rival_candidate)):
        assert pair.contribution.sum() + pair.unexplained == pytest.approx(pair.similarity, abs=1e-9)
        assert pair.similarity == pytest.approx(float(fitted.queries[query] @ fitted.candidates[candidate]), abs=1e-5)


def test_target_and_rival_are_the_best_of_their_kind(lab: Lab) -> None:
    found = explain(lab, comparison(lab, BASE, 3), "before", BASE)
    similarity = np.round(lab.base.candidates @ lab.base.queries[3], 12)
    targets = lab.space.qrels[[3]].indices
    assert found.target_candidate == min(targets, key=lambda c: (-similarity[c], c))
    others = np.setdiff1d(np.arange(len(similarity)), targets)
    assert found.rival_candidate == min(others, key=lambda c: (-similarity[c], c))
    assert found.rival_wins == (similarity[found.rival_candidate] > similarity[found.target_candidate])


@pytest.mark.parametrize("spec", ["realign", "centring:side", "edit:3=0", "codes:idf", "fusion:first=a"])
def test_what_is_not_linear_is_refused_with_the_reason(lab: Lab, spec: str) -> None:
    assert "not linear" in explains(parse(spec))
    with pytest.raises(RetrievalError, match="not linear"):
        explain(lab, comparison(lab, BASE, 0), "after", parse(spec))
