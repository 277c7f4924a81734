"""Interventions as data: the text form, its canonical shape, labels, and what is refused."""

from __future__ import annotations

import json

import pytest

from analysis.errors import RetrievalError
from analysis.retrieval.interventions import (
    BASE,
    Centring,
    ConceptSpace,
    Edit,
    Fusion,
    Intervention,
    Pool,
    PrincipalComponents,
    ReAlign,
    Removal,
    Rerank,
    parse,
)

CANONICAL = (
    "base",
    "removal:attribution,share=0.01,r=20+realign:alpha=0.1",
    "removal:concepts=12,99,r=2",
    "removal:random,share=0.02,seed=3,seeds=10",
    "removal:bridge_abs_sum,share=0.005,base=live",
    "pool:mean_no_image",
    "pool:queries=last",
    "pool:mean_no_prompt+edit:7=0,12=2.5+codes:idf+centring:side",
    "codes:equal+pca:n=3,centred=true",
    "centring:joint+realign:alpha=0.5,eps=0.001,statistics=support",
    "realign:alpha=0.1+rerank:n=20,first=clip-mini",
    "fusion:weight=0.25",
    "sae_edit:energy,share=0.02,base=live",
    "sae_edit:concepts=3,9",
    "bimodal:low=0.05,high=0.9",
    "all_but_the_top:n=4",
    "realign:alpha=0.1+nnn:alpha=0.75,k=128",
    "csls:k=10,bank=queries",
    "sinkhorn:beta=20,rounds=5",
)


@pytest.mark.parametrize("text", CANONICAL)
def test_the_text_form_survives_a_round_trip(text):
    found = parse(text)
    assert found.spec == text
    assert parse(found.spec) == found
    assert Intervention.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_title_is_kept_and_names_the_intervention():
    found = Intervention(parse("realign").steps, "our fix")
    assert found.label == "our fix"
    assert Intervention.from_dict(found.to_dict()) == found


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", "base"),
        ("  base ", "base"),
        ("removal", "removal:attribution,share=0.01"),
        ("removal:r=3, share=0.020", "removal:attribution,share=0.02,r=3"),
        ("removal:energy realign", "removal:energy,share=0.01+realign:alpha=0.1"),
        ("realign+pool:last", "pool:last+realign:alpha=0.1"),
        ("pool:queries=mean,candidates=mean", "base"),
        ("pool:queries=last,candidates=last", "pool:last"),
        ("rerank+removal:concepts=4", "removal:concepts=4+rerank:n=50"),
    ],
)
def test_other_spellings_become_canonical(text, canonical):
    assert parse(text).spec == canonical


def test_linear_steps_keep_their_order():
    assert parse("realign+removal").spec != parse("removal+realign").spec
    assert [type(step) for step in parse("rerank+realign+codes+removal").steps] == [
        ConceptSpace, ReAlign, Removal, Rerank,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("remval", "did you mean 'removal'"),
        ("removal:attributon", "did you mean 'attribution'"),
        ("removal:rank=3", "setting of removal 'rank' is unknown"),
        ("removal:r=x", "r of removal is 'x'; expected a whole number"),
        ("removal:r=-1", "expected a whole number from 0"),
        ("removal:share=2", "expected a number from 0 to 1"),
        ("removal:share=nan", "expected a number"),
        ("removal:concepts", "expected ids with the score 'concepts'"),
        ("removal:energy,concepts=3", "expected ids with the score 'concepts'"),
        ("removal:base=dead", "percentage base 'dead' is unknown"),
        ("edit:a=1", "no scaled concept"),
        ("edit:3=1,3=2", "each once"),
        ("edit", "one or more"),
        ("pca:n=0", "components is 0; expected a whole number from 1"),
        ("pca:n=2,centred=yes", "value true or false"),
        ("realign:alpha=2", "from 0 to 1"),
        ("realign:statistics=mine", "statistics 'mine' is unknown"),
        ("codes:tfidf", "did you mean 'idf'"),
        ("fusion:weight=-1", "from 0 to 1"),
        ("rerank+fusion", "two steps of one kind"),
        ("codes:idf+codes:equal", "two steps of one kind"),
        ("nnn+sinkhorn", "two steps of one kind"),
        ("removal:random,seeds=999999999", "number of seeds is 999999999; expected a whole number from 1 to 100"),
        ("realign:eps=1e308", "eps is 1e\\+308; expected a number from 0 to 1"),
        ("pca:n=1e9", "n of pca"),
        ("bimodal:low=0.9,high=0.1", "expected low below high"),
        ("nnn:bank=mine", "bank 'mine' is unknown"),
        ("+".join(["realign"] * 13), "at most 12"),
        ("removal:concepts=" + ",".join(["1"] * 4000), "at most 4,000"),
    ],
)
def test_what_is_wrong_is_named(text, message):
    with pytest.raises(RetrievalError, match=message):
        parse(text)


def test_labels_say_what_is_done():
    assert BASE.label == "base"
    assert parse("removal:attribution,share=0.01,r=20").label == "removal by attribution, top 1 %, r = 20"
    assert parse("removal:random,seeds=10").label == "random concepts, 1 % (10 seeds)"
    assert parse("pool:mean_no_image").label == "w/o image"
    assert parse("pool:queries=mean_no_prompt").label == "w/o prompt (queries)"
    assert parse("pca+realign").label == "2 uncentred principal components out + ReAlign α = 0.1"


def test_parts_are_found_and_a_hybrid_can_be_left_out():
    found = parse("pool:last+edit:3=0+removal+centring+fusion:weight=0.3")
    assert found.pool == Pool("last", "last")
    assert found.weighing == (Edit(((3, 0.0),)),)
    assert found.correction is None
    assert found.linear == (Removal(), Centring())
    assert found.hybrid == Fusion(0.3)
    assert found.without_hybrid().spec == "pool:last+edit:3=0+removal:attribution,share=0.01+centring:side"
    assert parse("pca").linear == (PrincipalComponents(2),)


def test_seeds_are_taken_apart():
    singles = parse("removal:random,share=0.1,seed=4,seeds=3+realign").seeds()
    assert [single.spec for single in singles] == [
        f"removal:random,share=0.1,seed={seed}+realign:alpha=0.1" for seed in (4, 5, 6)
    ]
    assert BASE.seeds() == (BASE,)
