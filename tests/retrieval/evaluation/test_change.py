"""What changed between two lists: leads that add up, ties, and no names for what the SAE does not explain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval.attribution import PairAttribution
from analysis.retrieval.evaluation.change import (
    Change,
    contenders,
    explain_change,
    explain_live_change,
    words_of,
)
from analysis.retrieval.evaluation.comparison import Comparison, compare
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.evaluation.why import TIE, UNEXPLAINED, Explanation
from analysis.retrieval.interventions import BASE, parse
from analysis.retrieval.interventions.fitting import fit
from analysis.retrieval.task import space_from_store
from analysis.store import open_store
from tests.synthetic_store import make_store

METHODS = (
    "removal:attribution,share=0.2",
    "realign:alpha=0.3",
    "removal:energy,share=0.1+realign",
    "nnn:alpha=0.5,k=8",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    path: Path = make_store(tmp_path_factory.mktemp("cache"), backbone="qwen2-vl-mini", n_pairs=24)
    return Lab(space_from_store(open_store(path), "t2i"))


def lists(lab: Lab, spec: str, query: int) -> Comparison:
    return Comparison(lab.lists(BASE), lab.lists(parse(spec)), lab.space.qrels, query)


@pytest.mark.parametrize("spec", METHODS)
@pytest.mark.parametrize("query", [1, 9])
def test_every_lead_is_the_difference_of_two_similarities_of_its_list(lab: Lab, spec: str, query: int) -> None:
    both = lists(lab, spec, query)
    for pair, candidates in contenders(both).items():
        found = explain_change(lab, both, parse(spec), pair)
        table = found.table()
        for side, method in (("before", BASE), ("after", parse(spec))):
            scores = fit(method, lab.space).scores()
            first, second = (scores.pairs(np.array([query]), np.array([c]))[0] for c in candidates)
            assert table.attrs[side] == pytest.approx(first - second, abs=1e-5)
            assert table[side].sum() == pytest.approx(table.attrs[side], abs=1e-9)
        assert np.allclose(table["before"] + table["change"], table["after"])
        sizes = table.loc[table["concept"] >= 0, "change"].abs().to_numpy()
        assert (np.diff(sizes) <= 0).all()
        assert UNEXPLAINED in table["concept"].to_numpy()


def test_who_is_compared(lab: Lab) -> None:
    for query in range(lab.space.n_queries):
        both = lists(lab, METHODS[0], query)
        old, new = (both.places(side, 1)[0].candidate for side in ("before", "after"))
        pairs = contenders(both)
        assert pairs
        assert ("winners" in pairs) == (old != new)
        assert pairs.get("winners", (new, old)) == (new, old)
        if "target" in pairs:
            assert pairs["target"][0] in both.targets
        assert all(one != other for one, other in pairs.values())
        assert all(len(set(words_of(pair, both))) == 2 for pair in pairs)


def test_a_live_query_is_explained_like_the_stored_one(lab: Lab) -> None:
    query, method = 5, parse(METHODS[1])
    base, changed = fit(BASE, lab.space), fit(method, lab.space)
    h = lab.space.row("queries", "mean", query)
    both = compare(base, changed, h, h, tuple(lab.space.qrels[[query]].indices))
    pair = next(iter(contenders(both)))
    live = explain_live_change(base, changed, both, h, h, pair).table().set_index("concept")
    stored = explain_change(lab, lists(lab, METHODS[1], query), method, pair).table().set_index("concept")
    assert live["after"].sum() == pytest.approx(stored["after"].sum(), abs=1e-4)
    assert live.loc[UNEXPLAINED, "change"] == pytest.approx(stored.loc[UNEXPLAINED, "change"], abs=1e-4)


def split(first: float, second: float, beyond: float = 0.0) -> Explanation:
    """Two similarities that differ by one concept and, by `beyond`, by what the SAE does not explain."""
    ids = np.array([7])
    one = PairAttribution(ids, np.array([first - beyond]), beyond, first)
    return Explanation(one, PairAttribution(ids, np.array([second]), 0.0, second), 0, 1)


def told(before: Explanation, after: Explanation) -> str:
    return " ".join(Change(before, after, ("new winner", "old winner")).sentences(lambda concept: f"{concept} · dog"))


def test_the_sentence_names_who_led_what_moved_it_and_what_stays_unexplained() -> None:
    words = told(split(0.50, 0.52), split(0.48, 0.40, beyond=0.01))
    assert "the new winner is 0.02 behind the old winner" in words
    assert "after, the new winner is 0.08 ahead of the old winner" in words
    assert "+0.1 comes most from concept 7 · dog (+0.09)" in words
    assert "Not explained by the SAE: +0.01" in words


def test_a_tie_is_called_a_tie_and_split_into_nothing() -> None:
    tied = split(0.5, 0.5 + 3.39e-06)
    assert tied.tie
    assert not tied.reasons()
    words = told(tied, split(0.5, 0.5 - 2e-6))
    assert words.count("tie") == 2
    assert "%" not in words
    assert "nothing changed" in words
    assert not replace(tied, rival=split(0.5, 0.5 + 3 * TIE).rival).tie


def test_a_change_below_what_the_sae_leaves_open_names_no_concept() -> None:
    words = told(split(0.50, 0.52), split(0.50, 0.49, beyond=0.05))
    assert "no concept can be named" in words
    assert "concept 7" not in words
    gap = split(0.50, 0.49, beyond=0.05)
    assert not gap.splits
    assert gap.reasons() == []


def test_two_models_do_not_split(lab: Lab) -> None:
    both = lists(lab, METHODS[0], 0)
    with pytest.raises(RetrievalError, match="two models"):
        explain_change(lab, both, parse("fusion:first=a"), next(iter(contenders(both))))
