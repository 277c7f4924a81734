"""The tokens of a live query: what is left out of pooling, and where a concept comes from."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import streamlit as st

from analysis.errors import AnalysisError
from analysis.live.concepts import token_activations, token_shares
from analysis.live.masks import NO_MASK, POOLINGS, ROLE_NAMES, TokenMask, parse_mask
from analysis.live.query import LiveQuery
from analysis.store import Store
from analysis.store.read import TokenView
from pages.components import caching, state, token_views
from pages.components.token_picker import token_picker

_MASKED = "_live_masked_query"
_WORDS = {"image": "image", "text": "your text", "instruction": "instruction", "template": "template"}


def current_mask(query: LiveQuery) -> TokenMask:
    """The mask in the URL as far as this query has such tokens; what does not fit becomes a notice."""
    text = state.get(state.MASK) or ""
    if not query.maskable:
        return NO_MASK
    try:
        mask = parse_mask(text)
        mask.masked(query.tokens.roles)
        return mask
    except AnalysisError as error:
        state.notice(f"The mask {state.shown(text)} does not fit this query: {error}")
        state.put(state.MASK, None)
        return NO_MASK


def forget(query: tuple[str, ...]) -> None:
    """Another query than the one before: roles stay masked, single tokens do not, they would be other words by now."""
    before, st.session_state[_MASKED] = st.session_state.get(_MASKED), query
    if before in (None, query):
        return
    with suppress(AnalysisError):  # what cannot be read is said by `current_mask`
        mask = parse_mask(state.get(state.MASK) or "")
        if mask.tokens:
            _put(replace(mask, tokens=()))


def show(store: Store, query: LiveQuery, mask: TokenMask, preview: str, concept: int | None) -> None:
    """The strip and the patch grid; clicks and chips write the mask into the URL."""
    if query.maskable:
        _chips(query, mask)
    shade = None if concept is None else shares(store, query, mask, concept)
    token_picker(
        query.tokens.strings,
        query.role_names,
        mask.masked(query.tokens.roles) if query.maskable else np.zeros(len(query.tokens), bool),
        key="_live_tokens",
        on_toggle=lambda: _toggle(query, mask),
        picture=preview,
        grid=query.tokens.grid,
        shade=shade,
        clickable=query.maskable,
    )
    st.caption(_explanation(store, query, mask, concept))


def cached(store: Store, row: int, concept: int | None) -> None:
    """Tokens of a sample of the store, whose token codes were kept: to look at, not to mask."""
    view: TokenView | None = store.token_view(row)
    if view is None:
        st.caption(
            f"The store keeps token codes of {len(store.token_rows):,} samples, this is none of them. Load the model to see "
            "and mask its tokens; the stored poolings and masks are under “Masks and pooling”."
        )
        return
    token_picker(
        view.strings, [ROLE_NAMES.get(role, "pad") for role in view.roles.tolist()], np.zeros(len(view.roles), bool),
        key="_live_tokens_cached", on_toggle=lambda: None, picture=caching.picture(store, row), grid=view.grid,
        shade=None if concept is None else token_views.activation(view, concept), clickable=False,
    )  # fmt: skip
    where = "" if concept is None else f" Shaded by concept {concept} on each token."
    st.caption(f"Stored token codes, to look at: load the model to mask single tokens.{where}")


def shares(store: Store, query: LiveQuery, mask: TokenMask, concept: int) -> np.ndarray:
    """(L,) where a concept comes from: shares of its activation on the pooled embedding, or, where the SAE was trained on
    tokens or the embedding is no mean of them, its activation on each token."""
    if _additive(store, query):
        return token_shares(caching.sae(store), query.tokens.states, mask.keep(query.tokens.roles), concept)
    return token_activations(caching.sae(store), query.tokens.states, concept)


def _chips(query: LiveQuery, mask: TokenMask) -> None:
    present = [role for role in _WORDS if role in query.role_names]

    def roles_changed() -> None:
        chosen = set(st.session_state["_live_roles"])
        roles = query.tokens.roles
        freed = [i for i, name in enumerate(query.role_names) if name in mask.roles and name not in chosen]
        added = [i for i, name in enumerate(query.role_names) if name in chosen and name not in mask.roles]
        _put(mask.toggled(freed, False, roles).toggled(added, True, roles))

    def pooling_changed() -> None:
        _put(TokenMask(mask.roles, mask.tokens, st.session_state["_live_pooling"]))

    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.session_state["_live_roles"] = [role for role in present if role in mask.roles]
        st.pills(
            "Leave out", present, selection_mode="multi", key="_live_roles", on_change=roles_changed, wrap=True,
            format_func=lambda role: f"w/o {_WORDS[role]}",
            help="w/o image and w/o prompt (text and instruction together) are the masks of the paper's Fig. 4. Single "
            "tokens and patches: click them, or drag over patches. Hidden states are kept, so nothing is computed anew.",
        )  # fmt: skip
        st.session_state["_live_pooling"] = mask.pooling
        st.segmented_control(
            "Pool", POOLINGS, key="_live_pooling", on_change=pooling_changed, required=True,
            format_func={"mean": "mean of the rest", "last": "last of the rest"}.__getitem__,
        )  # fmt: skip
        st.button("Clear", on_click=_put, args=(NO_MASK,), disabled=not mask, icon=":material/backspace:")


def _toggle(query: LiveQuery, mask: TokenMask) -> None:
    gesture = st.session_state["_live_tokens"]["toggle"]
    if gesture:
        _put(mask.toggled(gesture["positions"], bool(gesture["mask"]), query.tokens.roles))


def _put(mask: TokenMask) -> None:
    state.put(state.MASK, mask.spec or None)


def _additive(store: Store, query: LiveQuery) -> bool:
    return query.maskable and store.config["sae"]["unit"] == "pooled"


def _explanation(store: Store, query: LiveQuery, mask: TokenMask, concept: int | None) -> str:
    tokens = query.tokens
    left_out = int(mask.masked(tokens.roles).sum()) if query.maskable else 0
    said = f"{len(tokens)} tokens" + (f", {left_out} left out" if left_out else "")
    if not query.maskable:
        said += "; a dual encoder's embedding is no mean of tokens, so they are shown and not masked"
    if concept is not None:
        said += (
            f". Shaded: what each token brings to concept {concept}; the shares and the bias add up to its activation"
            if _additive(store, query)
            else f". Shaded: activation of concept {concept} on each token by itself"
        )
    return said + "."
