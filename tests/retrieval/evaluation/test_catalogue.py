"""The catalogue names every kind of step and score, each with an answer on a small task."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.retrieval.evaluation.catalogue import catalogue
from analysis.retrieval.evaluation.evaluate import evaluate
from analysis.retrieval.interventions import KINDS, Removal, parse
from analysis.retrieval.interventions.concept_sets import UNRANKED, score_labels
from analysis.retrieval.task import space_from_store
from analysis.store import open_store
from tests.synthetic_store import keep_untrained, make_store


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    return space_from_store(open_store(keep_untrained(make_store(tmp_path_factory.mktemp("cache")))), "i2t")


def every(space, **options):
    return [method for methods in catalogue(space, **options).values() for method in methods]


def test_every_kind_of_step_every_score_and_every_statistics_is_there(space):
    steps = [step for method in every(space, partner="other") for step in method.steps]
    assert {step.name for step in steps} == set(KINDS)
    assert {step.score for step in steps if isinstance(step, Removal)} == {*score_labels(), *UNRANKED}
    assert {step.statistics for step in steps if step.name == "realign"} == {
        "own", "joint", "queries", "candidates", "support",
    }  # fmt: skip
    assert {step.means for step in steps if step.name == "centring"} == {"side", "modality", "joint"}
    masks = {(step.queries, step.candidates) for step in steps if step.name == "pool"}
    assert masks >= {
        pair for name in space.queries if name != "mean" for pair in ((name, name), (name, "mean"), ("mean", name))
    }


def test_entries_are_distinct_have_a_text_form_and_an_answer(space):
    methods = every(space, removal=Removal(share=0.1), partner="other")
    assert len({method.spec for method in methods}) == len({method.label for method in methods}) == len(methods)
    assert [parse(method.spec) for method in methods] == methods
    table = evaluate(space, methods, ks=(1,), n_boot=10, first=space)
    assert table["recall"].between(0, 1).all()


def test_removals_have_the_share_and_r_of_the_one_in_view(space):
    found = catalogue(space, removal=Removal("energy", share=0.2, r=3, base="live"))["Removal by every score"]
    steps = [method.steps[0] for method in found]
    assert {(step.share, step.r, step.base) for step in steps} == {(0.2, 3, "live")}
    assert steps[-1].score == "random"
    assert steps[-1].seeds == 10


def test_hybrids_stand_behind_the_other_model_alone(space):
    found = catalogue(space, partner="clip-mini")["Hybrid"]
    assert found[0].label == "clip-mini alone"
    assert {step.name for method in found[1:] for step in method.steps} == {"rerank", "fusion"}


def test_without_a_partner_there_is_no_hybrid_and_without_scores_no_concept(space):
    assert "Hybrid" not in catalogue(space)
    bare = catalogue(replace(space, scores={}))
    assert "Concept edits" not in bare
    assert "Concepts picked by hand" not in bare
