"""The removal by an untrained SAE takes as many concepts as the removal it controls, out of the SAE that was not trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation.controls import untrained_control
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.evaluation.standard import standard_results
from analysis.retrieval.interventions import Removal, UntrainedRemoval, parse
from analysis.retrieval.interventions.context import Context
from analysis.retrieval.ranking.rows import Side
from analysis.retrieval.removal import concept_subspace
from analysis.retrieval.task import space_from_store
from analysis.store import open_store
from tests.retrieval.planted import DISTRACTORS, unit, world
from tests.synthetic_store import keep_untrained, make_store


@pytest.fixture
def space():
    """The planted task; its untrained SAE has other atoms and other loud concepts."""
    planted = world()
    atoms = unit(np.random.default_rng(5).standard_normal(planted.sae.dictionary.shape)).astype(np.float32)
    energy = np.linspace(1, 0, len(atoms))
    start = replace(planted.sae, dictionary=atoms)
    return replace(planted.space, load_untrained=lambda: (start, {"energy": energy, "attribution": energy[::-1]}))


def basis(space, step):
    width = space.dictionary.shape[1]
    nothing = Side(np.empty((0, width)), np.empty(0, bool))
    return step.basis(Context(space, nothing, nothing))


@pytest.mark.parametrize(("spec", "ids"), [("untrained:energy,share=0.1", [0, 1, 2, 3]),
                                           ("untrained:attribution,share=0.05", [38, 39])])  # fmt: skip
def test_the_top_concepts_of_the_untrained_sae_go(space, spec, ids):
    step = parse(spec).steps[0]
    expected = concept_subspace(space.untrained.dictionary, ids)
    np.testing.assert_allclose(basis(space, step), expected, atol=1e-6)


def test_a_share_of_the_live_concepts_is_counted_in_the_trained_sae(space):
    live = int((space.score("energy") > 0).sum())
    assert live < len(space.dictionary)
    removed = Removal("energy", share=0.5, base="live").ids(space)
    assert len(basis(space, UntrainedRemoval("energy", share=0.5, base="live"))) == len(removed) == live // 2


@pytest.mark.parametrize(
    ("removal", "control"),
    [
        ("removal:energy,share=0.03,r=7,base=live", "untrained:energy,share=0.03,r=7,base=live"),
        ("removal:bridge_max,share=0.03", "untrained:attribution,share=0.03"),
        ("removal:concepts=3,5", "untrained:attribution,share=0.02"),
        ("sae_edit:energy,share=0.02", "untrained:energy,share=0.02"),
    ],
)
def test_it_stands_beside_every_step_that_takes_concepts(removal, control):
    whole = parse(f"centring:side+{removal}")
    assert untrained_control(whole.steps[0] if "edit" in removal else whole.steps[1], n_concepts=100).spec == control


def test_its_steps_are_those_of_the_intervention_it_controls():
    whole = parse("removal:energy,share=0.03+realign")
    assert (
        untrained_control(whole.steps[0], n_concepts=100, within=whole).spec
        == "untrained:energy,share=0.03+realign:alpha=0.1"
    )


def test_removing_distractors_helps_and_as_many_random_atoms_do_not(space):
    lab = Lab(space)
    share = len(DISTRACTORS) / len(space.dictionary)
    base, removal, control = (
        lab.measure(parse(spec)).hits((1,)).mean()
        for spec in ("base", f"removal:energy,share={share}", f"untrained:energy,share={share}")
    )
    assert removal > base + 0.2
    assert control < base + 0.1


def test_a_curve_over_r_ends_at_the_whole_space(space):
    lab, step = Lab(space), UntrainedRemoval("energy", share=0.1)
    alone = parse(step.spec)
    along = lab.ranks_along(alone, step, "r", [0, 2, 4])
    np.testing.assert_array_equal(along[0].rank, lab.measure(parse("base")).ranks[0].rank)
    np.testing.assert_array_equal(along[1].rank, lab.measure(parse(f"{step.spec},r=2")).ranks[0].rank)
    np.testing.assert_array_equal(along[2].rank, lab.measure(alone).ranks[0].rank)


def test_without_an_untrained_sae_it_says_so_in_one_sentence():
    with pytest.raises(
        RetrievalError, match=r"planted keeps no untrained SAE.*expected a store of `build` without --sae"
    ):
        Lab(world().space).measure(parse("untrained:share=0.1"))


def test_a_build_s_results_hold_it_where_the_sae_was_trained_there(tmp_path):
    path = make_store(tmp_path)
    assert "untrained SAE" not in set(standard_results(space_from_store(open_store(path), "i2t"))["method"])
    stored = open_store(keep_untrained(path)).results("i2t").set_index("method")
    assert stored.loc["untrained SAE", "spec"].unique().tolist() == ["untrained:attribution,share=0.01"]
    assert stored.loc["untrained SAE", "recall"].between(0, 1).all()
