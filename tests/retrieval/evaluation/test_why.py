"""The bars of the why-panel add up, and say no where similarities do not split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation.comparison import Comparison
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.evaluation.why import CORRECTION, SHIFT, UNEXPLAINED, explain, explain_places
from analysis.retrieval.interventions import BASE, Intervention, parse
from analysis.retrieval.interventions.fitting import fit
from analysis.retrieval.ranking.lists import ScoreLists
from analysis.retrieval.task import space_from_store
from analysis.store import open_store
from tests.synthetic_store import make_store

SPLIT = (
    "base", "removal:attribution,share=0.1", "removal:attribution,share=0.1,r=2", "pool:last", "pca:n=2", "pool:last+pca:n=3",
    "pool:last+removal:energy,share=0.1", "removal:random,share=0.1,seeds=3", "realign:alpha=0.3", "centring:side",
    "centring:joint", "centring:modality", "edit:3=0,5=2", "codes:idf", "codes:equal", "edit:1=0.5+codes:idf",
    "removal:energy,share=0.05+realign", "centring:side+removal:concepts=2+realign:statistics=joint",
    "pool:queries=last+edit:2=3+realign", "codes:idf+realign", "sae_edit:energy,share=0.1", "bimodal:low=0.2,high=0.8",
    "all_but_the_top:n=2", "nnn:alpha=0.5,k=8", "realign+sinkhorn:beta=10", "qb_norm:beta=10",
)  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(
        space_from_store(open_store(make_store(tmp_path_factory.mktemp("cache"), backbone="qwen2-vl-mini")), "i2t")
    )


def comparison(lab: Lab, after: Intervention, query: int) -> Comparison:
    return Comparison(lab.lists(BASE), lab.lists(after), lab.space.qrels, query)


@pytest.mark.parametrize("spec", SPLIT)
@pytest.mark.parametrize("query", [0, 7])
def test_bars_add_up_to_the_similarity_of_the_list(lab: Lab, spec: str, query: int) -> None:
    after = parse(spec)
    found = explain(lab, comparison(lab, after, query), "after", after)
    scores = fit(after, lab.space).scores()
    for pair, candidate in ((found.target, found.target_candidate), (found.rival, found.rival_candidate)):
        parts = pair.contribution.sum() + pair.shift + pair.correction + pair.unexplained
        assert parts == pytest.approx(pair.similarity, abs=1e-9)
        assert pair.similarity == pytest.approx(scores.pairs(np.array([query]), np.array([candidate]))[0], abs=1e-5)
    corrected = CORRECTION in found.table()["concept"].tolist()
    assert corrected == any(pair.correction for pair in (found.target, found.rival))


def test_target_and_rival_are_the_best_of_their_kind(lab: Lab) -> None:
    found = explain(lab, comparison(lab, BASE, 3), "before", BASE)
    similarity = np.round(lab.base.candidates @ lab.base.queries[3], 12)
    targets = lab.space.qrels[[3]].indices
    assert found.target_candidate == min(targets, key=lambda c: (-similarity[c], c))
    others = np.setdiff1d(np.arange(len(similarity)), targets)
    assert found.rival_candidate == min(others, key=lambda c: (-similarity[c], c))
    assert found.rival_wins == (similarity[found.rival_candidate] > similarity[found.target_candidate])


@pytest.mark.parametrize("spec", ["fusion:first=a", "realign+rerank:n=5,first=a"])
def test_two_models_do_not_split(lab: Lab, spec: str) -> None:
    assert "two models" in parse(spec).unexplained()
    with pytest.raises(RetrievalError, match="two models"):
        explain(lab, comparison(lab, BASE, 0), "after", parse(spec))


def parts_by_hand(lab: Lab, side: str, position: int, mean: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, ...]:
    """(image of z_i D_i of every concept (K, D), image of the mean (D,), the whole (D,)), scaled to length 1."""
    h = lab.space.rows(side, "mean")[position].astype(np.float64)
    z = lab.space.codes(side, "mean")[[position]].to_csr().toarray()[0]
    atoms = z[:, None] * lab.space.dictionary / np.linalg.norm(h) @ matrix
    whole = (h / np.linalg.norm(h) - mean) @ matrix
    length = np.linalg.norm(whole)
    return atoms / length, -mean @ matrix / length, whole / length


def test_each_bar_after_whitening_is_the_formula_with_the_images_of_the_parts(lab: Lab) -> None:
    after = parse("realign:alpha=0.3")
    found = explain(lab, comparison(lab, after, 7), "after", after)
    sides = []
    for side, position in (("queries", 7), ("candidates", found.target_candidate)):
        rows = lab.space.rows(side, "mean").astype(np.float64)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        covariance = np.cov(rows, rowvar=False)
        shrunken = 0.7 * covariance + 0.3 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        values, vectors = np.linalg.eigh(shrunken)
        sides.append(parts_by_hand(lab, side, position, rows.mean(0), vectors / np.sqrt(values + 1e-5) @ vectors.T))
    (a_q, m_q, v_q), (a_c, m_c, v_c) = sides
    explained_q, explained_c = a_q.sum(0) + m_q, a_c.sum(0) + m_c
    bars = (a_q @ explained_c + a_c @ explained_q) / 2
    pair = found.target
    assert pair.contribution == pytest.approx(bars[pair.concept_ids], abs=1e-6)
    assert pair.shift == pytest.approx((m_q @ explained_c + m_c @ explained_q) / 2, abs=1e-6)
    assert pair.similarity == pytest.approx(v_q @ v_c, abs=1e-6)


def test_the_reasons_are_the_largest_shares_of_the_gap(lab: Lab) -> None:
    found = explain(lab, comparison(lab, parse("centring:side"), 3), "after", parse("centring:side"))
    table = found.table()
    assert table["difference"].sum() == pytest.approx(found.gap, abs=1e-9)
    assert set(table["concept"].iloc[-2:]) == {SHIFT, UNEXPLAINED}
    reasons = found.reasons(3)
    shares = dict(zip(table["concept"], table["difference"] / found.gap, strict=True))
    assert [share for _, share in reasons] == sorted((s for s in shares.values() if s > 0), reverse=True)[
        : len(reasons)
    ]
    assert all(shares[concept] == pytest.approx(share) for concept, share in reasons)


@pytest.mark.parametrize("spec", ["base", "edit:3=0+realign", "codes:idf", "removal:energy,share=0.1"])
def test_two_places_of_a_live_query_are_explained(lab: Lab, spec: str) -> None:
    fitted = fit(parse(spec), lab.space)
    h = lab.space.rows("queries", "mean")[4] + 0.1
    q = fitted.query(h)
    lists = ScoreLists(fitted.scores(q[None]))
    similarity = fitted.candidates @ q
    order = np.lexsort((np.arange(len(similarity)), -np.round(similarity, 12)))
    for place in (2, 9):
        found = explain_places(fitted, lists, h, place)
        assert (found.target_candidate, found.rival_candidate) == (order[place - 1], order[0])
        for pair, candidate in ((found.target, order[place - 1]), (found.rival, order[0])):
            assert pair.similarity == pytest.approx(similarity[candidate], abs=1e-6)
            parts = pair.contribution.sum() + pair.shift + pair.unexplained
            assert parts == pytest.approx(pair.similarity, abs=1e-9)
    for place in (1, lab.space.n_candidates + 1):
        with pytest.raises(RetrievalError, match="no place"):
            explain_places(fitted, lists, h, place)


@pytest.mark.parametrize(
    "spec", ["base", "codes:idf", "codes:equal", "codes:idf+realign", "edit:3=0,5=2", "centring:side"]
)
def test_a_decoder_bias_is_named_where_it_is_part_of_the_vectors(lab: Lab, spec: str) -> None:
    """Concept space compares z D without the bias: nothing is unexplained there, and only a subtracted mean shifts."""
    plain = lab.space.sae
    bias = np.random.default_rng(0).normal(0, 0.3, plain.dictionary.shape[1]).astype(np.float32)
    biased = Lab(replace(lab.space, load_sae=lambda: replace(plain, bias=bias)))
    after = parse(spec)
    found = explain(biased, comparison(biased, after, 7), "after", after)
    scores = fit(after, biased.space).scores()
    concepts_only, centred = spec.startswith("codes"), "realign" in spec or "centring" in spec
    for pair, candidate in ((found.target, found.target_candidate), (found.rival, found.rival_candidate)):
        assert pair.contribution.sum() + pair.shift + pair.unexplained == pytest.approx(pair.similarity, abs=1e-9)
        assert pair.similarity == pytest.approx(scores.pairs(np.array([7]), np.array([candidate]))[0], abs=1e-5)
        assert (abs(pair.unexplained) < 1e-6) == concepts_only
        assert (pair.shift != 0) == (centred or not concepts_only)
    words = "the subtracted means" if concepts_only else "the SAE's decoder bias"
    words = "the decoder bias and the subtracted means" if centred and not concepts_only else words
    assert found.words[SHIFT] == words


def test_the_concepts_that_an_intervention_removes(lab: Lab) -> None:
    assert parse("removal:concepts=3,7+realign").removed_concepts(lab.space) == {3, 7}
    assert parse("realign").removed_concepts(lab.space) == frozenset()
    best = int(np.nanargmax(lab.space.score("energy")))
    share = 1 / len(lab.space.dictionary)
    assert parse(f"removal:energy,share={share}").removed_concepts(lab.space) == {best}
