"""Curves: every point equals the evaluation at that point, bands are the seeds, and r is chosen honestly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation.evaluate import evaluate, lab_engine
from analysis.retrieval.evaluation.sweeps import (
    RecallOptions,
    alpha_curve,
    choose_rank,
    hybrid_curve,
    random_band,
    rank_curve,
    share_curve,
)
from analysis.retrieval.interventions import Removal, parse
from analysis.retrieval.interventions.linear_steps import removal_basis
from analysis.retrieval.realign import statistics
from analysis.retrieval.recall import hits_of_ranks
from tests.retrieval.planted import world

OPTIONS = RecallOptions(ks=(1, 5), n_boot=200)


@pytest.fixture(scope="module")
def space():
    return world(captions=2).space


@pytest.fixture(scope="module")
def engine(space):
    return lab_engine(space)


def points(space, specs: list[str], *, first=None) -> np.ndarray:
    """recall, low, high, difference, difference_low, difference_high of every spec and k, one after the other."""
    table = evaluate(space, [parse(spec) for spec in specs], ks=(1, 5), n_boot=200, first=first)
    names = [f"{name}@{{}}{end}" for name in ("R", "diff") for end in ("", "_low", "_high")]
    return np.array([[row[name.format(k)] for name in names] for row in table.to_dict("records") for k in (1, 5)])


NUMBERS = ["recall", "low", "high", "difference", "difference_low", "difference_high"]


def test_the_curve_over_r_is_the_evaluation_at_each_r(space, engine):
    projection = engine.projection(removal_basis(Removal(share=0.2), space))
    curve = rank_curve(engine, projection, [0, 2, 8], OPTIONS)
    assert curve["x"].tolist() == [0, 0, 2, 2, 8, 8]
    assert curve["k"].tolist() == [1, 5] * 3
    assert np.allclose(
        curve[NUMBERS], points(space, [f"removal:attribution,share=0.2,r={r}" for r in (0, 2, 8)]), atol=1e-12
    )


def test_the_curve_over_the_share_is_the_evaluation_at_each_share(space, engine):
    curve = share_curve(engine, space, Removal(r=2), [0.05, 0.25], OPTIONS)
    expected = points(space, ["removal:attribution,share=0.05,r=2", "removal:attribution,share=0.25,r=2"])
    assert np.allclose(curve[NUMBERS], expected, atol=1e-12)


def test_the_curve_over_alpha_is_the_evaluation_at_each_alpha(space):
    curve = alpha_curve(space, [0.0, 0.1, 0.9], OPTIONS)
    expected = points(space, [f"realign:alpha={alpha}" for alpha in (0.0, 0.1, 0.9)])
    assert np.allclose(curve[NUMBERS], expected, atol=1e-12)


@pytest.mark.parametrize("whose", ["joint", "queries", "candidates", "support"])
def test_the_curve_over_alpha_keeps_whose_statistics_they_are(space, whose):
    rows = space.queries["mean"][:20]
    known = replace(space, support=lambda variant: statistics(rows))
    curve = alpha_curve(known, [0.1, 0.9], OPTIONS, eps=1e-3, whose=whose)
    expected = points(known, [f"realign:alpha={alpha},eps=1e-3,statistics={whose}" for alpha in (0.1, 0.9)])
    assert np.allclose(curve[NUMBERS], expected, atol=1e-12)
    if whose == "support":
        with pytest.raises(RetrievalError, match="support statistics"):
            alpha_curve(replace(space, support=lambda variant: None), [0.1], OPTIONS, whose=whose)


def test_hybrid_curves_are_the_evaluation_at_each_n_and_weight(space):
    first = world(captions=2, seed=5).space
    curve = hybrid_curve(space, first, ns=[1, 10, 120], options=OPTIONS)
    assert np.allclose(curve[NUMBERS], points(space, [f"rerank:n={n}" for n in (1, 10, 120)], first=first), atol=1e-12)
    curve = hybrid_curve(space, first, weights=[0.0, 0.5, 1.0], options=OPTIONS)
    expected = points(space, [f"fusion:weight={w}" for w in (0.0, 0.5, 1.0)], first=first)
    assert np.allclose(curve[NUMBERS], expected, atol=1e-12)
    with pytest.raises(RetrievalError, match="exactly one of the two"):
        hybrid_curve(space, first)


def test_curves_by_fraction_count_targets_that_are_in_no_pool(space, engine):
    lacking = replace(space, missing_per_query=np.full(60, 2))
    options = RecallOptions(ks=(5,), definition="fraction", n_boot=20)
    table = evaluate(lacking, [parse("realign:alpha=0.5")], ks=(5,), definition="fraction", n_boot=20)
    curve = alpha_curve(lacking, [0.5], options)
    assert curve["recall"].iloc[0] == table["R@5"].iloc[0]
    assert alpha_curve(space, [0.5], options)["recall"].iloc[0] == pytest.approx(2 * curve["recall"].iloc[0])
    band = random_band(engine, lacking, Removal(share=0.1), rs=[3], seeds=1, options=options)
    single = evaluate(lacking, [parse("removal:random,share=0.1,r=3")], ks=(5,), definition="fraction", n_boot=20)
    assert band["recall"].iloc[0] == single["R@5"].iloc[0]
    projection = engine.projection(removal_basis(Removal(share=0.2), space))
    few, all_in_pool = (
        choice_of(
            engine, projection, [2], k=5, options=RecallOptions(definition="fraction", n_boot=10, n_relevant=count)
        )
        for count in (lacking.n_relevant, None)
    )
    assert few.reported.value == pytest.approx(all_in_pool.reported.value / 2)


def test_the_band_spans_the_seeds(space, engine):
    band = random_band(engine, space, Removal(share=0.1), rs=[1, 3], seeds=4, options=OPTIONS)
    for r in (1, 3):
        singles = points(space, [f"removal:random,share=0.1,r={r},seed={seed}" for seed in range(4)])[::2, 0]
        row = band[(band["x"] == r) & (band["k"] == 1)].iloc[0]
        assert row["recall"] == pytest.approx(singles.mean())
        assert (row["band_low"], row["band_high"]) == pytest.approx((singles.min(), singles.max()))
    along_share = random_band(engine, space, Removal(r=3), shares=[0.1], seeds=4, options=OPTIONS)
    assert along_share["band_high"].iloc[0] == pytest.approx(row["band_high"])
    with pytest.raises(RetrievalError, match="exactly one of the two"):
        random_band(engine, space, Removal(), rs=[1], shares=[0.1])


FEW = RecallOptions(n_boot=10)


def choice_of(engine, projection, rs, *, k=1, options=FEW):
    return choose_rank(rs, engine.rank_curve(projection, rs), engine.ranks(), k=k, options=options)


def test_r_is_chosen_on_one_half_and_reported_on_the_other(space, engine):
    projection = engine.projection(removal_basis(Removal(share=0.2), space))
    rs = [0, 1, 2, 3, 4, 8]
    choice = choice_of(engine, projection, rs, options=RecallOptions(n_boot=100, seed=3))
    order = np.random.default_rng(3).permutation(60)
    hits = {r: hits_of_ranks(engine.ranks(projection, r), [1])[:, 0] for r in rs}
    chosen_on = [hits[r][order[:30]].mean() for r in rs]
    assert choice.chosen_on.tolist() == pytest.approx(chosen_on)
    assert choice.r == rs[int(np.argmax(chosen_on))]
    assert choice.reported.value == pytest.approx(hits[choice.r][order[30:]].mean())
    assert choice.base.value == pytest.approx(hits[0][order[30:]].mean())
    assert choice.difference.value == pytest.approx(choice.reported.value - choice.base.value)
    assert choice.where_chosen.value == pytest.approx(hits[choice.r][order[:30]].mean())
    assert choice.base_where_chosen.value == pytest.approx(hits[0][order[:30]].mean())
    assert choice.base_where_chosen.low < choice.base_where_chosen.value < choice.base_where_chosen.high
    assert choice.difference.low > 0  # the planted distractors are found
    assert (choice.n_chosen_on, choice.n_reported) == (30, 30)
    assert choice_of(engine, projection, [3, 3, 8, 4]).r >= 3


def test_equal_values_of_r_go_to_the_smaller(space, engine):
    projection = engine.projection(removal_basis(Removal("concepts", concepts=(0, 1, 2)), space))
    assert choice_of(engine, projection, [50, 3, 9]).r == 3  # all remove the same three directions
    with pytest.raises(RetrievalError, match="Choosing r"):
        choice_of(engine, projection, [])


def test_an_empty_grid_gives_an_empty_table(engine):
    curve = rank_curve(engine, engine.projection(np.empty((0, 32))), [], OPTIONS)
    assert curve.empty
    assert set(NUMBERS) <= set(curve.columns)
