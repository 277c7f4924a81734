"""Curves: every point equals the evaluation at that point, bands are the seeds, and r is chosen honestly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation.curves import RecallOptions, choose_rank, control_band, curve_table, curves, levels
from analysis.retrieval.evaluation.evaluate import evaluate
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.interventions import KINDS, parse
from analysis.retrieval.interventions.settings import settings_of
from analysis.retrieval.recall import hits_of_ranks
from tests.retrieval.planted import row_of, world

NUMBERS = ["recall", "low", "high", "difference", "difference_low", "difference_high"]


@pytest.fixture(scope="module")
def space():
    return world(captions=2).space


@pytest.fixture(scope="module")
def lab(space):
    other = world(captions=2, seed=5).space
    return Lab(space, lambda name: other)


@pytest.mark.parametrize(
    ("setting", "method", "at"),
    [
        ("r", "removal:attribution,share=0.2", "removal:attribution,share=0.2,r={:g}"),
        ("share", "removal:energy,share=0.1", "removal:energy,share={:g}"),
        ("alpha", "realign:eps=1e-3,statistics=joint", "realign:alpha={:g},eps=1e-3,statistics=joint"),
        ("eps", "realign:alpha=0.3", "realign:alpha=0.3,eps={:g}"),
        ("n", "pca:n=2", "pca:n={:g}"),
        ("n", "all_but_the_top:n=2", "all_but_the_top:n={:g}"),
        ("beta", "sinkhorn:beta=5,rounds=3", "sinkhorn:beta={:g},rounds=3"),
        ("k", "csls:k=4", "csls:k={:g}"),
        ("high", "bimodal:low=0.3,high=0.9", "bimodal:low=0.3,high={:g}"),
    ],
)
def test_every_curve_is_the_evaluation_at_each_of_its_points(space, lab, setting, method, at):
    table = curves(lab, setting, parse(method), ks=(1, 5)).curves
    first = next(iter(table.values()))
    xs = first["x"].drop_duplicates().tolist()
    assert len(xs) > 2
    expected = evaluate(space, [parse(at.format(x)) for x in xs], ks=(1, 5))
    assert np.allclose(first[NUMBERS], expected[NUMBERS], atol=1e-12)


@pytest.mark.parametrize(("setting", "method"), [("n", "rerank:n=5,first=x"), ("weight", "fusion:weight=0.3,first=x")])
def test_hybrid_curves_are_differences_to_this_model_alone(lab, setting, method):
    whole = parse(f"centring:side+{method}")
    found = curves(lab, setting, whole, ks=(1,))
    table = next(iter(found.curves.values()))
    alone = lab.measure(whole.without_hybrid()).hits([1])[0, :, 0]
    assert np.allclose(table["recall"] - table["difference"], alone.mean())
    assert [level.spec for level in levels(setting, whole)] == ["base", "centring:side", "fusion:weight=0,first=x"]


def test_every_numeric_setting_with_values_has_a_curve(space):
    """A step that declares values gets its curve without anything else."""
    lab = Lab(replace(space, load_untrained=lambda: (space.sae, space.scores)))
    for kind in KINDS.values():
        for name, setting in settings_of(kind).items():
            if setting.values and setting.kind in ("number", "whole") and kind.acts != "lists":
                assert len(curves(lab, name, parse(kind.name), ks=(1,)).curves) >= 1, (kind.name, name)


def test_a_setting_that_no_step_has_is_refused_with_those_that_it_has(lab):
    with pytest.raises(RetrievalError, match=r"weight.*expected one of .*alpha"):
        curves(lab, "weight", parse("realign"))


def test_the_band_spans_the_seeds(space, lab):
    band = control_band(lab, "share", parse("sae_edit:energy,share=0.1"), ks=(1,))
    specs = [f"sae_edit:random,share=0.1,seed={seed}" for seed in range(10)]
    table = evaluate(space, [parse(spec) for spec in specs], ks=(1,))
    found = band[np.isclose(band["x"], 0.1)].iloc[0]
    assert found["recall"] == pytest.approx(table["recall"].mean())
    assert (found["band_low"], found["band_high"]) == pytest.approx((table["recall"].min(), table["recall"].max()))
    assert control_band(lab, "alpha", parse("realign")) is None


def test_picked_concepts_have_as_many_random_ones_as_control(space, lab):
    band = control_band(lab, "r", parse("removal:concepts=0,1,2"), ks=(1,))
    assert band["x"].max() == 3
    seeds = [parse(f"removal:random,share={3 / len(space.dictionary)!r},seed={seed}") for seed in range(10)]
    expected = evaluate(space, seeds, ks=(1,))["recall"]
    assert band[band["x"] == 3]["recall"].iloc[0] == pytest.approx(expected.mean())


def test_curves_by_fraction_count_targets_that_are_in_no_pool(space):
    lacking = replace(space, missing_per_query=np.full(60, 2))
    found = curves(Lab(lacking), "alpha", parse("realign"), ks=(5,), definition="fraction")
    table = evaluate(lacking, [parse("realign:alpha=0.5")], ks=(5,), definition="fraction")
    curve = next(iter(found.curves.values()))
    assert curve[curve["x"] == 0.5]["recall"].iloc[0] == row_of(table, "realign:alpha=0.5", 5)["recall"]


def choice_of(lab, method, rs, **options):
    step = parse(method).steps[0]
    ranks = lab.ranks_along(parse(method), step, "r", rs)
    return choose_rank(rs, ranks, lab.measure(parse("base")).ranks[0], options=RecallOptions(n_boot=50, **options))


def test_r_is_chosen_on_one_half_and_reported_on_the_other(lab):
    rs = [0, 1, 2, 3, 4, 8]
    choice = choice_of(lab, "removal:attribution,share=0.2", rs, seed=3)
    order = np.random.default_rng(3).permutation(60)
    hits = {}
    for r in rs:
        ranks = lab.measure(parse(f"removal:attribution,share=0.2,r={r}")).ranks[0]
        hits[r] = hits_of_ranks(ranks, [1])[:, 0]
    chosen_on = [hits[r][order[:30]].mean() for r in rs]
    assert choice.chosen_on.tolist() == pytest.approx(chosen_on)
    assert choice.r == rs[int(np.argmax(chosen_on))]
    assert choice.reported.value == pytest.approx(hits[choice.r][order[30:]].mean())
    assert choice.base.value == pytest.approx(hits[0][order[30:]].mean())
    assert choice.difference.value == pytest.approx(choice.reported.value - choice.base.value)
    assert choice.where_chosen.value == pytest.approx(hits[choice.r][order[:30]].mean())
    assert choice.difference.low > 0  # the planted distractors are found
    assert (choice.n_chosen_on, choice.n_reported) == (30, 30)


def test_equal_values_of_r_go_to_the_smaller(lab):
    assert choice_of(lab, "removal:concepts=0,1,2", [50, 3, 9]).r == 3  # all remove the same three directions
    with pytest.raises(RetrievalError, match="Choosing r"):
        choice_of(lab, "removal:concepts=0,1,2", [])


def test_an_empty_grid_gives_an_empty_table(lab):
    curve = curve_table([], [], base=lab.measure(parse("base")).ranks[0])
    assert curve.empty
    assert set(NUMBERS) <= set(curve.columns)
