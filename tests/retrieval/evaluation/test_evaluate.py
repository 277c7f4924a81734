"""The results table: numbers, intervals, paired differences, seeds, and the planted finding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation.bootstrap import bootstrap_interval
from analysis.retrieval.evaluation.evaluate import evaluate, lab_engine, lists_under, long_form, ranks_under
from analysis.retrieval.interventions import BASE, parse
from analysis.retrieval.interventions.fitting import apply
from analysis.retrieval.recall import hits_of_lists, recall_at_k
from analysis.retrieval.search import search
from tests.retrieval.planted import world

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
    for spec, row in zip(SPECS, table.to_dict("records"), strict=True):
        if "random" in spec:
            continue
        queries, candidates = apply(parse(spec), planted.space)
        expected = recall_at_k(search(queries, candidates, 10).ids, planted.space.qrels)
        assert {k: row[f"R@{k}"] for k in (1, 5, 10)} == pytest.approx(expected), spec
        assert row["spec"] == parse(spec).spec


def test_removing_the_planted_distractors_helps_and_random_concepts_do_not(table):
    rows = table.set_index("spec")
    removal, base = rows.loc["removal:concepts=0,1,2"], rows.loc["base"]
    assert removal["R@1"] > base["R@1"] + 0.3
    assert removal["diff@1_low"] > 0.2
    random = rows.loc["removal:random,share=0.08,seeds=4"]
    assert random["band@1_high"] < removal["R@1"]
    assert rows.loc["removal:attribution,share=0.08"]["R@1"] == removal["R@1"]  # attribution finds them
    assert rows.loc["edit:0=0,1=0,2=0"]["R@1"] > base["R@1"] + 0.3


def test_differences_are_paired(planted, table):
    rows = table.set_index("spec")
    hits = {}
    for spec in ("base", "realign"):
        queries, candidates = apply(parse(spec), planted.space)
        hits[spec] = hits_of_lists(search(queries, candidates, 10).ids, planted.space.qrels, (1, 5, 10))
    expected = bootstrap_interval(hits["realign"] - hits["base"], resamples=300)
    found = rows.loc["realign:alpha=0.1"]
    for index, k in enumerate((1, 5, 10)):
        assert found[f"diff@{k}"] == pytest.approx(expected.value[index])
        assert found[f"diff@{k}_low"] == pytest.approx(expected.low[index])
        assert found[f"diff@{k}_high"] == pytest.approx(expected.high[index])
    assert (rows.loc["base"][[f"diff@1{end}" for end in ("", "_low", "_high")]] == 0).all()


def test_random_seeds_give_their_mean_and_a_band(planted, table):
    found = table.set_index("spec").loc["removal:random,share=0.08,seeds=4"]
    singles = evaluate(planted.space, [parse(f"removal:random,share=0.08,seed={seed}") for seed in range(4)], n_boot=10)
    assert found["R@5"] == pytest.approx(singles["R@5"].mean())
    assert found["band@5_low"] == pytest.approx(singles["R@5"].min())
    assert found["band@5_high"] == pytest.approx(singles["R@5"].max())
    assert singles["band@5_low"].isna().all()


def test_the_table_is_the_same_twice_and_with_the_engine(planted, table):
    interventions = [parse(spec) for spec in SPECS]
    pd.testing.assert_frame_equal(table, evaluate(planted.space, interventions, n_boot=300))
    with_engine = evaluate(planted.space, interventions, n_boot=300, engine=lab_engine(planted.space))
    pd.testing.assert_frame_equal(table, with_engine)


def test_the_facts_beside_the_table(planted, table):
    assert table.attrs == {
        "queries": 60, "candidates": 120, "unanswerable": 0, "missing_targets": 0, "definition": "hit",
    }  # fmt: skip
    fraction = evaluate(planted.space, [BASE], ks=(1, 2), definition="fraction", n_boot=10)
    assert fraction["R@1"].iloc[0] <= 0.5
    assert evaluate(planted.space, [], ks=(1,)).empty


def test_long_form_holds_the_same_numbers(table):
    rows = long_form(table)
    assert len(rows) == len(SPECS) * 3
    assert rows["method"].drop_duplicates().tolist() == table["method"].tolist()
    found = rows[(rows["spec"] == "realign:alpha=0.1") & (rows["k"] == 5)].iloc[0]
    wide = table.set_index("spec").loc["realign:alpha=0.1"]
    for name, column in (("recall", "R@5"), ("low", "R@5_low"), ("difference_high", "diff@5_high")):
        assert found[name] == wide[column]


def test_a_void_query_is_a_miss(planted):
    h = planted.embeddings["queries"].copy()
    h[:10] = planted.sae.dictionary[0]
    broken = replace(planted.space, queries={"mean": h})
    intervention = parse("removal:concepts=0")
    for engine in (None, lab_engine(broken)):
        found = evaluate(broken, [intervention], n_boot=10, engine=engine).iloc[0]
        assert found["void_queries"] == 10
        ranks, void = ranks_under(broken, intervention, engine=engine)
        assert void[:10].all()
        assert (ranks.best[:10] == planted.space.n_candidates + 1).all()


def test_lists_stand_behind_the_ranks(planted):
    engine = lab_engine(planted.space)
    for spec in SPECS:
        for chosen in (None, engine):
            lists = lists_under(planted.space, parse(spec), engine=chosen)
            ranks, _ = ranks_under(planted.space, parse(spec), engine=chosen)
            targets = ranks.candidate[ranks.query == 7]
            assert np.array_equal(lists.ranks(7, targets), ranks.rank[ranks.query == 7]), spec
            assert lists.top(7, 120).ids[0, ranks.rank[ranks.query == 7] - 1].tolist() == targets.tolist()


def test_hybrids_need_a_second_store_of_the_same_samples(planted):
    first = world(captions=2, seed=5).space
    found = evaluate(planted.space, [parse("rerank:n=120"), parse("fusion:weight=1"), BASE], first=first, n_boot=10)
    assert found["R@1"].nunique() == 1  # everything re-ranked, or all the weight, is this model alone
    alone = evaluate(first, [BASE], n_boot=10)
    other = evaluate(planted.space, [parse("rerank:n=1"), parse("fusion:weight=0")], first=first, n_boot=10)
    assert (other["R@1"] == alone["R@1"].iloc[0]).all()
    with pytest.raises(RetrievalError, match="needs a second store"):
        evaluate(planted.space, [parse("rerank")])
    with pytest.raises(RetrievalError, match="has other candidates than"):
        evaluate(planted.space, [parse("rerank")], first=world(captions=3).space)
