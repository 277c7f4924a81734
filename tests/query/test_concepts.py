"""What a concept gets from each token adds up to its activation on the pooled query."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.models.backbones import Backbone
from analysis.query.concepts import query_concepts, token_activations, token_shares
from analysis.query.masks import TokenMask
from analysis.query.query import embed_query
from analysis.store import Store
from tests.query.live_store import caption, picture


@pytest.mark.parametrize("mask", [TokenMask(), TokenMask(("instruction",), (2, 3)), TokenMask(pooling="last")])
def test_shares_and_bias_add_up_to_the_activation(mllm: Backbone, stores: dict[str, Store], mask: TokenMask) -> None:
    sae = stores["qwen2_vl"].sae()
    query = embed_query(mllm, picture=picture(3), text=caption(3))
    found = query_concepts(sae, query.embedding(mask))
    keep = mask.keep(query.tokens.roles)
    for concept in found.ids[:5]:
        shares = token_shares(sae, query.tokens.states, keep, int(concept))
        assert shares.sum() + sae.encoder_bias[concept] == pytest.approx(found.value(int(concept)), rel=1e-4)
        assert (shares[~keep] == 0).all()


def test_concepts_are_those_the_store_holds(mllm: Backbone, stores: dict[str, Store]) -> None:
    store = stores["qwen2_vl"]
    row = int(store.task("i2t").query_rows[7])
    found = query_concepts(store.sae(), embed_query(mllm, picture=picture(7)).embedding())
    live = store.codes.values[row] > 0
    assert set(found.ids.tolist()) == set(store.codes.indices[row][live].tolist())
    assert (np.diff(found.values) <= 0).all()


def test_activations_of_single_tokens_are_their_codes(mllm: Backbone, stores: dict[str, Store]) -> None:
    sae = stores["qwen2_vl"].sae()
    states = embed_query(mllm, text=caption(0)).tokens.states
    concept = int(query_concepts(sae, states[2]).ids[0])
    values = token_activations(sae, states, concept)
    assert values[2] == pytest.approx(query_concepts(sae, states[2]).value(concept), rel=1e-5)


def test_an_unknown_concept_is_a_sentence(stores: dict[str, Store]) -> None:
    with pytest.raises(RetrievalError, match="Concept 4000 does not exist"):
        token_activations(stores["qwen2_vl"].sae(), np.zeros((2, 64), np.float32), 4000)
