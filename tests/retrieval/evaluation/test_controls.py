"""Controls keep what they are compared with, and the parts of an intervention are what it is made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.retrieval.evaluation.controls import (
    controls,
    first_stage_alone,
    parts,
    random_control,
    reference,
    with_first_stages,
)
from analysis.retrieval.evaluation.evaluate import evaluate
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.interventions import BASE, Intervention, Removal, parse
from analysis.retrieval.interventions.concept_sets import how_many, share_of
from analysis.retrieval.ranking.ranks import target_ranks
from analysis.retrieval.recall import hits_of_ranks
from tests.retrieval.planted import world

REMOVAL = Removal("energy", share=0.03, r=7)


def specs(interventions):
    return [intervention.spec for intervention in interventions]


def test_controls_match_the_removal_they_stand_beside():
    found = controls(REMOVAL, n_concepts=256, components=7)
    assert found[0] == random_control(REMOVAL, n_concepts=256)
    assert found[0].spec == "removal:random,share=0.03,r=7,seeds=10"
    assert found[1].spec == "untrained:energy,share=0.03,r=7"
    assert "removal:energy,share=0.03,r=7" not in specs(found)
    assert {"removal:attribution,share=0.03,r=7", "pca:n=7", "pca:n=7,centred=true", "centring:side", "centring:joint",
            "realign:alpha=0.1"} <= set(specs(found))  # fmt: skip
    assert all(isinstance(intervention, Intervention) for intervention in found)


@pytest.mark.parametrize(("k", "count"), [(256, 1), (256, 5), (256, 12), (1000, 7), (300, 200), (32768, 5), (7, 7)])
def test_as_many_concepts_stand_beside_those_picked_by_hand(k: int, count: int) -> None:
    picked = Removal("concepts", concepts=tuple(range(count)))
    random, untrained, *others = controls(picked, n_concepts=k)
    assert how_many(random.steps[0].share, k) == how_many(untrained.steps[0].share, k) == count
    by_score = [other.steps[0] for other in others if isinstance(other.steps[0], Removal)]
    assert by_score
    assert {how_many(step.share, k) for step in by_score} == {count}


def test_the_share_of_some_concepts_is_short() -> None:
    assert [share_of(5, 256), share_of(1, 256), share_of(12, 256)] == [0.02, 0.004, 0.05]


@pytest.mark.parametrize(
    ("before", "behind"), [("pool:last+", ""), ("", "+realign:alpha=0.3"), ("centring:side+", "+rerank:n=5,first=x")]
)
def test_controls_of_a_combination_have_its_other_steps_in_their_places(before, behind):
    whole = parse(f"{before}removal:energy,share=0.03,r=7{behind}")
    assert (
        random_control(REMOVAL, n_concepts=256, within=whole).spec
        == f"{before}removal:random,share=0.03,r=7,seeds=10{behind}"
    )
    found = specs(controls(REMOVAL, n_concepts=256, components=7, within=whole))
    assert f"{before}pca:n=7{behind}" in found
    assert len(set(found)) == len(found)
    assert all(spec.startswith(before) and spec.endswith(behind) for spec in found)
    assert all(spec.count("centring") < 2 and spec.count("realign") < 2 for spec in found)


def test_a_removal_that_is_not_in_the_intervention_has_a_control_of_its_own():
    assert random_control(REMOVAL, n_concepts=256, within=parse("realign")) == random_control(REMOVAL, n_concepts=256)


def test_parts_are_single_steps_and_both_models():
    assert parts(BASE) == parts(parse("realign")) == ()
    assert specs(parts(parse("removal:energy,r=2+realign"))) == ["removal:energy,share=0.01,r=2", "realign:alpha=0.1"]
    assert specs(parts(parse("rerank:n=5,first=x"))) == ["fusion:weight=0,first=x"]
    assert specs(parts(parse("pca:n=2+realign+rerank:n=5,first=x"))) == [
        "fusion:weight=0,first=x", "pca:n=2+realign:alpha=0.1", "pca:n=2", "realign:alpha=0.1", "rerank:n=5,first=x",
    ]  # fmt: skip
    assert parts(parse("fusion:weight=0,first=x")) == ()


def test_every_other_model_is_named_once_behind_the_methods():
    given = [parse(text) for text in ("rerank:n=5,first=x", "base", "rerank:n=9,first=x", "fusion:first=y")]
    assert specs(with_first_stages(given)) == [*specs(given), "fusion:weight=0,first=x", "fusion:weight=0,first=y"]
    assert with_first_stages([BASE]) == (BASE,)


def test_the_first_stage_alone_is_the_other_model():
    mine, other = world(40, seed=0).space, world(40, seed=5).space
    other = replace(other, qrels=mine.qrels)
    alone = first_stage_alone(parse("rerank:n=5,first=clip-mini"))
    assert alone.label == "clip-mini alone"
    lab = Lab(mine, lambda name: other)
    found = evaluate(mine, [alone], ks=(1, 5), lab=lab)["recall"].tolist()
    assert found == evaluate(other, [BASE], ks=(1, 5))["recall"].tolist()
    hits = hits_of_ranks(target_ranks(lab.first_stage("clip-mini"), mine.qrels), (1,))
    assert found[0] == hits.mean() != evaluate(mine, [BASE], ks=(1,))["recall"].iloc[0]
    lists, own = lab.lists(alone), Lab(other).lists(BASE)
    assert np.array_equal(lists.top(3, 8).ids, own.top(3, 8).ids)


def test_a_hybrid_has_to_beat_the_better_of_its_two_models_and_anything_else_the_base():
    whole = parse("pca:n=2+rerank:n=5,first=x")
    recall = {"pca:n=2": 0.2, "fusion:weight=0,first=x": 0.9}
    assert reference(whole, lambda method: recall[method.spec]).spec == "fusion:weight=0,first=x"
    assert reference(whole, lambda method: -recall[method.spec]).spec == "pca:n=2"
    assert reference(parse("pca:n=2"), lambda method: 0.0) == BASE
    assert reference(parse("fusion:weight=0,first=x"), lambda method: 0.0) == BASE
