"""The results table: numbers, intervals, paired differences, seeds, and the planted finding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation.bootstrap import bootstrap_interval
from analysis.retrieval.evaluation.evaluate import evaluate
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.interventions import BASE, parse
from analysis.retrieval.interventions.fitting import fit
from analysis.retrieval.recall import hits_of_lists, recall_at_k
from analysis.retrieval.search import search
from tests.retrieval.planted import row_of, world

SPECS = (
    "base", "removal:concepts=0,1,2", "removal:attribution,share=0.08", "removal:random,share=0.08,seeds=4", "realign",
    "centring:side", "pca:n=2", "codes:idf", "pool:last", "edit:0=0,1=0,2=0", "removal:concepts=0+realign",
)  # fmt: skip


@pytest.fixture(scope="module")
def planted():
    return world(captions=2)


@pytest.fixture(scope="module")
def table(planted) -> pd.DataFrame:
    return evaluate(planted.space, [parse(spec) for spec in SPECS], n_boot=300)


def test_recall_is_that_of_the_lists(planted, table):
    assert table["spec"].drop_duplicates().tolist() == [parse(spec).spec for spec in SPECS]
    for spec in SPECS:
        if "random" in spec:
            continue
        fitted = fit(parse(spec), planted.space)
        queries, candidates = fitted.queries, fitted.candidates
        expected = recall_at_k(search(queries, candidates, 10).ids, planted.space.qrels)
        found = {k: row_of(table, parse(spec).spec, k)["recall"] for k in (1, 5, 10)}
        assert found == pytest.approx(expected), spec


def test_removing_the_planted_distractors_helps_and_random_concepts_do_not(table):
    removal, base = row_of(table, "removal:concepts=0,1,2", 1), row_of(table, "base", 1)
    assert removal["recall"] > base["recall"] + 0.3
    assert removal["difference_low"] > 0.2
    random = row_of(table, "removal:random,share=0.08,seeds=4", 1)
    assert random["band_high"] < removal["recall"]
    assert row_of(table, "removal:attribution,share=0.08", 1)["recall"] == removal["recall"]  # attribution finds them
    assert row_of(table, "edit:0=0,1=0,2=0", 1)["recall"] > base["recall"] + 0.3


def test_differences_are_paired(planted, table):
    hits = {}
    for spec in ("base", "realign"):
        fitted = fit(parse(spec), planted.space)
        queries, candidates = fitted.queries, fitted.candidates
        hits[spec] = hits_of_lists(search(queries, candidates, 10).ids, planted.space.qrels, (1, 5, 10))
    expected = bootstrap_interval(hits["realign"] - hits["base"], resamples=300)
    for index, k in enumerate((1, 5, 10)):
        found = row_of(table, "realign:alpha=0.1", k)
        assert found["difference"] == pytest.approx(expected.value[index])
        assert found["difference_low"] == pytest.approx(expected.low[index])
        assert found["difference_high"] == pytest.approx(expected.high[index])
    assert (row_of(table, "base", 1)[["difference", "difference_low", "difference_high"]] == 0).all()


def test_random_seeds_give_their_mean_and_a_band(planted, table):
    found = row_of(table, "removal:random,share=0.08,seeds=4", 5)
    drawn = [parse(f"removal:random,share=0.08,seed={seed}") for seed in range(4)]
    singles = evaluate(planted.space, drawn, ks=(5,), n_boot=10)
    assert found["recall"] == pytest.approx(singles["recall"].mean())
    assert found["band_low"] == pytest.approx(singles["recall"].min())
    assert found["band_high"] == pytest.approx(singles["recall"].max())
    assert singles["band_low"].isna().all()


def test_the_table_is_the_same_twice_and_with_a_lab_that_has_been_used(planted, table):
    interventions = [parse(spec) for spec in SPECS]
    pd.testing.assert_frame_equal(table, evaluate(planted.space, interventions, n_boot=300))
    lab = Lab(planted.space)
    lab.measure(parse("removal:attribution,share=0.08,r=1"))
    pd.testing.assert_frame_equal(table, evaluate(planted.space, interventions, n_boot=300, lab=lab))


def test_the_facts_beside_the_table(planted, table):
    assert table.attrs == {
        "queries": 60, "candidates": 120, "unanswerable": 0, "missing_targets": 0, "definition": "hit",
    }  # fmt: skip
    fraction = evaluate(planted.space, [BASE], ks=(1, 2), definition="fraction", n_boot=10)
    assert fraction["recall"].iloc[0] <= 0.5
    assert evaluate(planted.space, [], ks=(1,)).empty


def test_a_void_query_is_a_miss(planted):
    h = planted.embeddings["queries"].copy()
    h[:10] = planted.sae.dictionary[0]
    broken = replace(planted.space, queries={"mean": h})
    intervention = parse("removal:concepts=0")
    assert evaluate(broken, [intervention], n_boot=10)["void"].tolist() == [10] * 3
    found = Lab(broken).measure(intervention)
    assert found.void == 10
    assert (found.ranks[0].best[:10] == planted.space.n_candidates + 1).all()


def test_lists_stand_behind_the_ranks(planted):
    lab = Lab(planted.space)
    for spec in SPECS:
        lists, ranks = lab.lists(parse(spec)), lab.measure(parse(spec)).ranks[0]
        targets = ranks.candidate[ranks.query == 7]
        assert np.array_equal(lists.ranks(7, targets), ranks.rank[ranks.query == 7]), spec
        assert lists.top(7, 120).ids[0, ranks.rank[ranks.query == 7] - 1].tolist() == targets.tolist()


def test_hybrids_need_a_second_store_of_the_same_samples(planted):
    first = world(captions=2, seed=5).space
    found = evaluate(planted.space, [parse("rerank:n=120"), parse("fusion:weight=1"), BASE], first=first, n_boot=10)
    assert (
        found[found["k"] == 1]["recall"].nunique() == 1
    )  # everything re-ranked, or all the weight, is this model alone
    alone = evaluate(first, [BASE], n_boot=10)
    other = evaluate(planted.space, [parse("rerank:n=1"), parse("fusion:weight=0")], first=first, n_boot=10)
    assert (other[other["k"] == 1]["recall"] == row_of(alone, "base", 1)["recall"]).all()
    with pytest.raises(RetrievalError, match="needs a second store"):
        evaluate(planted.space, [parse("rerank")])
    with pytest.raises(RetrievalError, match="has other candidates than"):
        evaluate(planted.space, [parse("rerank")], first=world(captions=3).space)
