"""Both lists of one query against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.live.ranking import compare
from analysis.retrieval.interventions import parse
from analysis.retrieval.pipeline import fit
from analysis.retrieval.spaces import RetrievalSpace, space_from_store
from analysis.store import open_store
from tests.synthetic_store import make_store

METHOD = "removal:attribution,share=0.1+realign:alpha=0.3"


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> RetrievalSpace:
    return space_from_store(open_store(make_store(tmp_path_factory.mktemp("cache"))), "i2t")


def test_a_query_of_the_store_ranks_as_it_does_in_the_whole_matrix(space: RetrievalSpace) -> None:
    base, changed = fit(parse("base"), space), fit(parse(METHOD), space)
    h = space.rows("queries", "mean")[5]
    targets = tuple(space.qrels[[5]].indices.tolist())
    found = compare(base, changed, h, h, targets)
    orders = {}
    for side, fitted in (("before", base), ("after", changed)):
        similarity = np.round(fitted.candidates @ fitted.queries[5], 12)
        orders[side] = sorted(range(len(similarity)), key=lambda c: (-similarity[c], c))
    for side, other in (("before", "after"), ("after", "before")):
        places = found.places(side, 10)
        assert [place.candidate for place in places] == orders[side][:10]
        assert [place.rank for place in places] == list(range(1, 11))
        assert [place.other_rank for place in places] == [orders[other].index(place.candidate) + 1 for place in places]
        assert [place.is_target for place in places] == [place.candidate in targets for place in places]
    best = {side: min(order.index(target) + 1 for target in targets) for side, order in orders.items()}
    assert found.best_ranks == (best["before"], best["after"])


def test_an_upload_has_no_targets(space: RetrievalSpace) -> None:
    base = fit(parse("base"), space)
    h = space.rows("queries", "mean")[0]
    found = compare(base, base, h, h)
    assert found.best_ranks is None
    assert [place.rank for place in found.places("after", 4)] == [
        place.other_rank for place in found.places("after", 4)
    ]


def test_a_query_inside_the_removed_space_is_refused_with_the_reason(space: RetrievalSpace) -> None:
    base, changed = fit(parse("base"), space), fit(parse("removal:concepts=0"), space)
    inside = space.dictionary[0] * 3
    with pytest.raises(RetrievalError, match="Nothing is left of this query"):
        compare(base, changed, inside, inside)
