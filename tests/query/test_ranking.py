"""Both lists of one query against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.data.samples import Sample
from analysis.errors import BackboneError, RetrievalError
from analysis.models.backbones import Backbone
from analysis.models.results import TokenStates
from analysis.query.applied import applied, carried_mask, compare, rank_query
from analysis.query.compatibility import statistics_note
from analysis.query.masks import parse_mask
from analysis.query.query import LiveQuery, embed_query
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.interventions import parse
from analysis.retrieval.interventions.fitting import fit
from analysis.retrieval.task import RetrievalSpace, space_from_store
from analysis.store import Store, open_store
from tests.query.live_store import caption, picture
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
    assert found.best_targets is not None
    assert tuple(place.rank for place in found.best_targets) == (best["before"], best["after"])


@pytest.mark.parametrize("query", range(6))
def test_best_targets_further_down_are_pinned_in_both_lists(space: RetrievalSpace, query: int) -> None:
    """Targets are planted at the end of the list before, so that they stand behind its first rows."""
    fitted = {"before": fit(parse("base"), space), "after": fit(parse(METHOD), space)}
    h = space.rows("queries", "mean")[query]
    similarity = {side: np.round(one.candidates @ one.queries[query], 12) for side, one in fitted.items()}
    orders = {side: sorted(range(len(s)), key=lambda c, s=s: (-s[c], c)) for side, s in similarity.items()}
    targets = tuple(orders["before"][-6:])
    found = compare(fitted["before"], fitted["after"], h, h, targets)
    best = {side: min(targets, key=order.index) for side, order in orders.items()}
    assert found.best_targets is not None
    assert [place.candidate for place in found.best_targets] == [best["before"], best["after"]]
    for side, other in (("before", "after"), ("after", "before")):
        behind = sorted({orders[side].index(c) + 1: c for c in best.values() if orders[side].index(c) >= 4}.items())
        pinned = found.pinned(side, 4)
        assert [(place.rank, place.candidate) for place in pinned] == behind
        assert [place.other_rank for place in pinned] == [orders[other].index(c) + 1 for _, c in behind]
        for place in pinned:
            assert place.is_target
            assert place.similarity == pytest.approx(similarity[side][place.candidate], abs=1e-5)
    assert found.pinned("before", 4)


def test_an_upload_has_no_targets(space: RetrievalSpace) -> None:
    base = fit(parse("base"), space)
    h = space.rows("queries", "mean")[0]
    found = compare(base, base, h, h)
    assert found.best_targets is None
    assert found.pinned("before") == found.pinned("after") == []
    assert [place.rank for place in found.places("after", 4)] == [
        place.other_rank for place in found.places("after", 4)
    ]


def test_a_query_inside_the_removed_space_is_refused_with_the_reason(space: RetrievalSpace) -> None:
    base, changed = fit(parse("base"), space), fit(parse("removal:concepts=0"), space)
    inside = space.dictionary[0] * 3
    with pytest.raises(RetrievalError, match="Nothing is left of this query"):
        compare(base, changed, inside, inside)


@pytest.fixture(scope="module")
def live_space(stores: dict[str, Store]) -> RetrievalSpace:
    return space_from_store(stores["qwen2_vl"], "i2t")


@pytest.fixture(scope="module")
def live_query(mllm: Backbone) -> LiveQuery:
    """The stored query 3, embedded from its original picture."""
    return embed_query(mllm, picture=picture(3), task="i2t")


AS_MASK = {
    "last": "last",
    "mean_no_image": "image",
    "mean_no_instruction": "instruction",
    "mean_no_prompt": "text,instruction",
}


@pytest.mark.parametrize("method", ["base", "realign:alpha=0.3", "removal:attribution,share=0.1", "centring", "pca:n=2",
                                    "removal:concepts=1,4+realign:alpha=0.3", "edit:1=0+centring:joint"])  # fmt: skip
@pytest.mark.parametrize("variant", list(AS_MASK))
@pytest.mark.parametrize("how", ["mask", "pool", "both"])
def test_a_masked_live_query_ranks_as_the_stored_one_in_the_lab(
    live_space: RetrievalSpace, live_query: LiveQuery, method: str, variant: str, how: str
) -> None:
    pooled = f"pool:queries={variant}+{method}"
    lab = Lab(live_space).lists(parse(pooled))
    found = rank_query(
        live_query, live_space, mask=parse_mask("" if how == "pool" else AS_MASK[variant]),
        intervention=parse(method if how == "mask" else pooled),
    )  # fmt: skip
    positions = np.arange(live_space.n_candidates)
    np.testing.assert_array_equal(found.after.ranks(0, positions), lab.ranks(3, positions))
    np.testing.assert_allclose(
        [place.similarity for place in found.places("after", 16)], lab.top(3, 16).scores[0], atol=1e-4
    )  # fmt: skip


def test_mask_and_pooled_variant_act_together(live_space: RetrievalSpace, live_query: LiveQuery) -> None:
    changes = applied(live_query, live_space, parse_mask("image,20"), parse("pool:queries=last,candidates=last"))
    assert changes.mask == parse_mask("image,20,last")
    assert changes.intervention == parse("pool:candidates=last")
    assert changes.label == "w/o image, 1 token masked, last token, last token (candidates)"
    roles = live_query.tokens.roles
    kept = np.flatnonzero(changes.mask.keep(roles))
    assert kept.tolist() == [len(roles) - 1]


def test_a_free_mask_keeps_the_statistics_of_unmasked_queries_and_says_so(
    live_space: RetrievalSpace, live_query: LiveQuery
) -> None:
    mask, whitening = parse_mask("3-8"), parse("realign:alpha=0.3")
    changes = applied(live_query, live_space, mask, whitening)
    assert changes.fitted == whitening
    assert "unmasked queries" in statistics_note("i2t", live_query, changes)
    for other in ("removal:attribution,share=0.1", "realign:alpha=0.3,statistics=candidates", "edit:1=0"):
        assert statistics_note("i2t", live_query, applied(live_query, live_space, mask, parse(other))) == ""
    assert statistics_note("i2t", live_query, applied(live_query, live_space, parse_mask("image"), whitening)) == ""
    h = live_query.embedding(mask)
    oracle = compare(fit(parse("base"), live_space), fit(whitening, live_space), h, h).places("after", 5)
    found = rank_query(live_query, live_space, mask=mask, intervention=whitening).places("after", 5)
    assert [place.candidate for place in found] == [place.candidate for place in oracle]


def test_a_variant_of_pictures_says_nothing_about_a_text(live_space: RetrievalSpace, mllm: Backbone) -> None:
    query = embed_query(mllm, text=caption(2), task="t2i")
    for variant in ("mean_no_image", "mean_no_prompt"):  # as in a store, where both equal the mean
        changes = applied(query, live_space, parse_mask(""), parse(f"pool:queries={variant}"))
        assert not changes.mask
        assert changes.label == ""


def test_what_cannot_be_pooled_is_refused_in_a_sentence(
    stores: dict[str, Store], live_space: RetrievalSpace, live_query: LiveQuery, dual: Backbone
) -> None:
    with pytest.raises(RetrievalError, match=r"pools queries as 'mean_no_prompts'.*choose one of those"):
        rank_query(live_query, live_space, intervention=parse("pool:queries=mean_no_prompts"))
    space, query = space_from_store(stores["clip"], "i2t"), embed_query(dual, picture=picture(1), task="i2t")
    with pytest.raises(BackboneError, match="pools queries as 'last', and tiny-clip is a dual encoder"):
        rank_query(query, space, intervention=parse("pool:queries=last"))
    with pytest.raises(BackboneError, match="dual encoder"):
        rank_query(query, space, mask=parse_mask("image"))


def read(grid: tuple[int, int] | None, words: str = "a dog", rest: int = 0, vector: bool = False) -> LiveQuery:
    """A query as a model reads it: a template token, its patches, image tokens beside the grid, words, an instruction."""
    patches = 0 if grid is None else grid[0] * grid[1]
    strings = ["<s>", *[""] * (patches + rest), *words.split(), "In", "one", "word"]
    roles = np.repeat(np.array([1, 2, 3, 4], np.int8), [1, patches + rest, len(words.split()), 3])
    states = np.eye(len(roles), dtype=np.float32)
    cells = None if grid is None else np.arange(1, patches + 1)
    pooled = states[0] if vector else None
    tokens = TokenStates(states, roles, np.zeros(len(roles)), strings, grid, pooled=pooled, cells=cells)
    return LiveQuery(Sample("q", "text", words), tokens, {"key": "other"}, "uniform")


@pytest.mark.parametrize(
    ("mask", "grid", "rest", "carried"),
    [
        ("image,instruction", (2, 2), 0, "image,instruction"),
        ("image.0-1/4x2", (4, 4), 0, "image.0-1,image.4-5"),  # the upper left quarter of 4 x 4 ...
        ("image.0-1/4x2", (2, 2), 0, "image.0"),  # ... is one patch of 2 x 2
        ("image.0-1/4x2", (8, 8), 0, "image.0-3/8x4"),
        ("image.!0-1/4x2", (2, 2), 3, "image.!0"),  # the other image tokens go with the rest of the picture
        ("image.0-1/4x2", (2, 2), 3, "image.0"),
        ("image.!5", (2, 4), 0, "image.!1"),  # centres at 3/8 of the width, 1/4 of the height
        ("text.1,last", (4, 4), 0, "text.1,last"),
    ],
)
def test_a_region_is_carried_to_the_same_place_of_another_grid(
    mask: str, grid: tuple[int, int], rest: int, carried: str
) -> None:
    other = read(grid, rest=rest)
    found, notes = carried_mask(parse_mask(mask), read((4, 4)), other)
    np.testing.assert_array_equal(found.masked(other.tokens.roles), parse_mask(carried).masked(other.tokens.roles))
    assert ("under its centre" in " ".join(notes)) == (grid != (4, 4) and "image." in mask)


def test_what_another_model_cannot_leave_out_is_said() -> None:
    query, texts = read((4, 4)), read(None)
    assert carried_mask(parse_mask("image"), query, read((2, 2), vector=True)) == (
        parse_mask(""), ("Not masked: other was trained to give one vector: its embedding is not a mean of tokens.",)
    )  # fmt: skip
    for mask, words in (("image", "reads no image tokens"), ("image.3", "no place in the picture")):
        found, notes = carried_mask(parse_mask(mask), query, texts)
        assert not found.masked(texts.tokens.roles).any()
        assert words in " ".join(notes)
    found, notes = carried_mask(parse_mask("text.0,3"), query, read((2, 2), words="an old dog"))
    assert not found
    assert "cuts it into other tokens" in notes[0]
    assert "by their place in the whole query" in notes[1]
