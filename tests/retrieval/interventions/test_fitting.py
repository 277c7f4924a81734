"""Interventions on arrays: each against its literal form, combinations, and one query among the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from analysis.errors import RetrievalError
from analysis.retrieval.interventions import BASE, Intervention, Removal, parse
from analysis.retrieval.interventions.fitting import embeddings, fit
from analysis.retrieval.realign import statistics
from analysis.retrieval.task import RetrievalSpace
from analysis.sae.codes import Codes
from tests.retrieval.planted import unit, world

QUERY_SPECS = (
    "base", "removal:attribution,share=0.05", "removal:concepts=0,7,r=1", "realign", "pca:n=2", "pca:n=1,centred=true",
    "centring:side", "centring:joint", "codes:idf", "codes:equal", "edit:0=0,5=2", "edit:0=0+codes:equal",
    "pool:last+realign:alpha=0.3", "pool:queries=last+centring:side", "removal:energy,share=0.05+realign",
    "realign:statistics=joint", "realign:statistics=queries", "realign:statistics=candidates",
    "realign:statistics=support", "edit:1=0+centring:side+removal:concepts=2+realign",
)  # fmt: skip


def apply(intervention: Intervention, space: RetrievalSpace) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows of queries and candidates after an intervention."""
    fitted = fit(intervention, space)
    return fitted.queries, fitted.candidates


@pytest.fixture(scope="module")
def planted():
    return world()


@pytest.fixture(scope="module")
def sides(planted):
    return tuple(unit(planted.embeddings[side].astype(np.float64)) for side in ("queries", "candidates"))


def test_the_base_only_normalises(planted, sides):
    for found, expected in zip(apply(BASE, planted.space), sides, strict=True):
        assert np.allclose(found, expected, atol=1e-15)


def test_removal_projects_both_sides(planted, sides):
    removal = Removal("attribution", share=0.1, r=3)
    atoms = planted.sae.dictionary[removal.ids(planted.space)].astype(np.float64)
    directions = np.linalg.svd(atoms, full_matrices=False)[2][:3]
    projector = np.eye(32) - directions.T @ directions
    for found, rows in zip(apply(parse("removal:attribution,share=0.1,r=3"), planted.space), sides, strict=True):
        assert np.allclose(found, unit(rows @ projector), atol=1e-10)


def test_centring_subtracts_the_mean_of_each_side_or_of_both(planted, sides):
    q, c = sides
    for spec, means in (
        ("centring:side", (q.mean(0), c.mean(0))),
        ("centring:joint", (np.concatenate(sides).mean(0),) * 2),
    ):
        found = apply(parse(spec), planted.space)
        for rows, side, mean in zip(found, sides, means, strict=True):
            assert np.allclose(rows, unit(side - mean), atol=1e-12)


def of_modalities(planted, queries, candidates):
    """The planted task with a modality for each of its samples."""
    found = {"queries": np.asarray(queries), "candidates": np.asarray(candidates)}
    return replace(planted.space, stored_modalities=lambda side: found[side])


def test_centring_per_modality_takes_the_mean_over_both_sides(planted, sides):
    q, c = sides
    kinds = np.arange(len(c)) % 3  # a pool of text, picture and both
    space = of_modalities(planted, np.full(len(q), 1), kinds)
    means = {0: c[kinds == 0].mean(0), 1: np.concatenate([q, c[kinds == 1]]).mean(0), 2: c[kinds == 2].mean(0)}
    queries, candidates = apply(parse("centring:modality"), space)
    assert np.allclose(queries, unit(q - means[1]), atol=1e-12)
    assert np.allclose(candidates, unit(c - np.stack([means[kind] for kind in kinds])), atol=1e-12)
    h = planted.embeddings["queries"][4]
    assert np.allclose(fit(parse("centring:modality"), space).query(h), queries[4], atol=1e-12)


@pytest.mark.parametrize(
    ("kinds", "same"), [(("image", "text"), "centring:side"), (("text", "text"), "centring:joint")]
)
def test_centring_per_modality_of_uniform_sides(planted, sides, kinds, same):
    space = of_modalities(planted, *(np.full(len(rows), kind) for rows, kind in zip(sides, kinds, strict=True)))
    for found, expected in zip(apply(parse("centring:modality"), space), apply(parse(same), space), strict=True):
        assert np.allclose(found, expected, atol=1e-12)


def test_a_row_without_a_modality_is_not_centred_per_modality(planted, sides):
    with pytest.raises(RetrievalError, match="does not say which modality"):
        fit(parse("centring:modality"), planted.space)
    mixed = of_modalities(planted, np.arange(len(sides[0])) % 2, np.zeros(len(sides[1])))
    with pytest.raises(RetrievalError, match="of 2 modalities"):
        fit(parse("centring:modality"), mixed).query(planted.embeddings["queries"][0])


@pytest.mark.parametrize("centred", [False, True])
def test_components_are_those_of_both_sides_together(planted, sides, centred):
    together = np.concatenate(sides)
    directions = np.linalg.svd(together - centred * together.mean(axis=0), full_matrices=False)[2][:2]
    found = apply(parse(f"pca:n=2,centred={centred}"), planted.space)[0]
    assert np.allclose(found, unit(sides[0] - sides[0] @ directions.T @ directions), atol=1e-9)


def test_wide_embeddings_find_the_same_components(planted, sides, monkeypatch):
    expected = apply(parse("pca:n=3"), planted.space)[1]
    monkeypatch.setattr("analysis.retrieval.ranking.transforms._FULL_EIGH", 1)
    assert np.allclose(apply(parse("pca:n=3"), planted.space)[1], expected, atol=1e-8)


def test_realign_takes_the_statistics_it_names(planted, sides):
    q, c = sides
    own, other, joint = statistics(q), statistics(c), statistics(np.concatenate(sides))
    for spec, (for_q, for_c) in {
        "realign": (own, other),
        "realign:statistics=joint": (joint, joint),
        "realign:statistics=queries": (own, own),
        "realign:statistics=candidates": (other, other),
        "realign:statistics=support": (own, other),
    }.items():
        found = apply(parse(spec), planted.space)
        assert np.allclose(found[0], for_q.whitening().apply(q), atol=1e-9), spec
        assert np.allclose(found[1], for_c.whitening().apply(c), atol=1e-9), spec


def test_the_support_set_of_another_pooling_is_measured(planted):
    """Only "mean" has stored statistics there."""
    found = apply(parse("pool:last+realign:statistics=support"), planted.space)
    expected = apply(parse("pool:last+realign"), planted.space)
    assert np.allclose(found[0], expected[0], atol=1e-9)
    assert np.allclose(found[1], expected[1], atol=1e-9)


def test_editing_scales_the_part_of_a_concept(planted):
    dictionary = planted.sae.dictionary.astype(np.float64)
    h = planted.embeddings["queries"].astype(np.float64)
    z = planted.codes["queries"].to_csr().toarray()
    expected = h + (0 - 1) * z[:, [0]] * dictionary[0] + (2.5 - 1) * z[:, [7]] * dictionary[7]
    assert np.allclose(embeddings(parse("edit:0=0,7=2.5"), planted.space, "queries"), expected, atol=1e-9)


def test_concept_space_is_the_cosine_of_codes_through_the_dictionary(planted):
    weight = planted.space.rarity("idf")
    z_q, z_c = (planted.codes[side].to_csr().toarray() * weight for side in ("queries", "candidates"))
    gram = planted.sae.dictionary.astype(np.float64) @ planted.sae.dictionary.T
    length = [np.sqrt(np.einsum("ij,jk,ik->i", z, gram, z)) for z in (z_q, z_c)]
    expected = z_q @ gram @ z_c.T / np.outer(*length)
    q, c = apply(parse("codes:idf"), planted.space)
    assert np.allclose(q @ c.T, expected, atol=1e-5)


def test_masks_and_pooling_choose_the_stored_embedding_per_side(planted):
    q, c = apply(parse("pool:queries=last"), planted.space)
    assert np.allclose(q, unit(planted.embeddings["queries"][:, ::-1].astype(np.float64)))
    assert np.allclose(c, unit(planted.embeddings["candidates"].astype(np.float64)))


def test_steps_act_in_their_order(planted, sides):
    centred = [unit(side - side.mean(axis=0)) for side in sides]
    expected = [statistics(side).whitening(0.2).apply(side) for side in centred]
    found = apply(parse("centring:side+realign:alpha=0.2"), planted.space)
    for rows, wanted in zip(found, expected, strict=True):
        assert np.allclose(rows, wanted, atol=1e-9)


@pytest.mark.parametrize("spec", QUERY_SPECS)
def test_an_uploaded_query_gets_the_similarities_of_its_twin_in_the_store(planted, spec):
    intervention = parse(spec)
    fitted = fit(intervention, planted.space)
    h = planted.space.rows("queries", intervention.pool.queries)[13]
    codes = planted.space.codes("queries", intervention.pool.queries)[[13]]
    assert np.allclose(fitted.query(h, codes), fitted.queries[13], atol=1e-6)
    if "edit" not in spec:
        assert np.allclose(fitted.query(3 * h, codes), fitted.queries[13], atol=1e-6)


def test_codes_of_a_query_are_made_when_they_are_needed(planted):
    fitted = fit(parse("codes:equal"), planted.space)
    h = planted.embeddings["queries"][3]
    assert np.allclose(fitted.query(h), fitted.query(h, planted.space.encode(h[None])), atol=1e-7)


def test_stored_statistics_stand_in_for_missing_queries(planted):
    space = planted.space
    lonely = replace(
        space,
        queries={"mean": planted.embeddings["queries"][:0]},
        qrels=sp.csr_array((0, space.n_candidates)),
        stored_codes=lambda side, variant: planted.codes[side][:0] if side == "queries" else planted.codes[side],
    )
    h = planted.embeddings["queries"][5]
    for spec in ("realign", "centring:side", "realign:alpha=0.3,statistics=support"):
        expected = fit(parse(spec), space).query(h)
        assert np.allclose(fit(parse(spec), lonely).query(h), expected, atol=1e-9)
    without = replace(lonely, stored_statistics=lambda side, variant: None)
    for spec in ("realign", "centring:side", "removal:concepts=1+realign"):
        with pytest.raises(RetrievalError, match="no statistics to whiten queries"):
            fit(parse(spec), without)
    given = fit(parse("realign"), without, support=statistics(planted.embeddings["queries"]))
    assert np.allclose(given.query(h), fit(parse("realign"), space).query(h), atol=1e-9)


def test_given_statistics_win_over_the_queries_of_the_space(planted):
    other = statistics(planted.embeddings["candidates"])
    found = fit(parse("realign"), planted.space, support=other).query(planted.embeddings["queries"][0])
    expected = other.whitening().apply(unit(planted.embeddings["queries"][:1].astype(np.float64)))[0]
    assert np.allclose(found, expected, atol=1e-9)


def test_a_query_that_nothing_is_left_of_is_refused(planted):
    fitted = fit(parse("removal:concepts=0"), planted.space)
    with pytest.raises(RetrievalError, match="Nothing is left of this query"):
        fitted.query(planted.sae.dictionary[0])
    with pytest.raises(RetrievalError, match="No live concept fires"):
        fit(parse("codes:equal"), planted.space).query(
            np.ones(32), Codes(np.zeros((1, 4), np.int32), np.zeros((1, 4), np.float32), 40)
        )
    with pytest.raises(RetrievalError, match="31 dimensions"):
        fitted.query(np.ones(31))
    with pytest.raises(RetrievalError, match="NaN"):
        fitted.query(np.full(32, np.nan))


def test_a_row_that_is_lost_stays_lost_and_is_reported(planted):
    space = planted.space
    h = planted.embeddings["queries"].copy()
    h[4] = planted.sae.dictionary[0]
    broken = replace(space, queries={"mean": h})
    fitted = fit(parse("removal:concepts=0+centring:side+realign"), broken)
    assert np.flatnonzero(fitted.void_queries).tolist() == [4]
    assert not fitted.queries[4].any()
    assert not fitted.void_candidates.any()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("removal:energy,share=1", "nothing would be left"),
        ("removal:concepts=40", "Concept 40 does not exist"),
        ("edit:40=0", "Concept 40 does not exist"),
        ("pca:n=32", "leave nothing"),
        ("removal:bridge_diagonal", "no concept score"),
        ("pool:median", "no embeddings 'median'"),
    ],
)
def test_impossible_requests_are_refused(planted, spec, message):
    with pytest.raises(RetrievalError, match=message):
        fit(parse(spec), planted.space)


def test_only_a_lone_projection_is_a_low_rank_update():
    for spec in ("removal:concepts=1,2", "pca:n=3"):
        assert parse(spec).single_projection is parse(spec).steps[0]
    for spec in ("base", "realign", "removal:concepts=1+realign", "pool:last+removal:concepts=1", "edit:1=0"):
        assert parse(spec).single_projection is None


def test_an_sae_edit_takes_out_what_its_concepts_put_there(planted):
    dictionary = planted.sae.dictionary.astype(np.float64)
    h, z = planted.embeddings["queries"].astype(np.float64), planted.codes["queries"].to_csr().toarray()
    chosen = Removal("energy", share=0.1).ids(planted.space)
    expected = h - z[:, chosen] @ dictionary[chosen]
    found = embeddings(parse("sae_edit:energy,share=0.1"), planted.space, "queries")
    assert np.allclose(found, expected, atol=1e-9)
    picked = embeddings(parse("sae_edit:concepts=0,7"), planted.space, "queries")
    assert np.allclose(picked, embeddings(parse("edit:0=0,7=0"), planted.space, "queries"), atol=1e-12)


def test_keeping_bimodal_concepts_takes_out_both_ends(planted):
    n = len(planted.sae.dictionary)
    modality = np.linspace(0, 1, n)
    modality[3] = np.nan
    space = replace(planted.space, scores={**planted.space.scores, "modality_score": modality})
    gone = np.flatnonzero((modality < 0.2) | (modality > 0.7))
    h, z = planted.embeddings["queries"].astype(np.float64), planted.codes["queries"].to_csr().toarray()
    expected = h - z[:, gone] @ planted.sae.dictionary[gone].astype(np.float64)
    assert np.allclose(embeddings(parse("bimodal:low=0.2,high=0.7"), space, "queries"), expected, atol=1e-9)


def test_all_but_the_top_is_its_formula(planted, sides):
    for found, rows in zip(apply(parse("all_but_the_top:n=3"), planted.space), sides, strict=True):
        centred = rows - rows.mean(axis=0)
        directions = np.linalg.svd(centred, full_matrices=False)[2][:3]
        assert np.allclose(found, unit(centred - centred @ directions.T @ directions), atol=1e-9)
