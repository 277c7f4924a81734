"""The tokens of a live query: what is left out of pooling, and where a concept comes from."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import streamlit as st

from analysis.errors import AnalysisError, BackboneError
from analysis.models.pooling import VARIANTS, Role
from analysis.query.concepts import token_activations, token_shares
from analysis.query.masks import NO_MASK, POOLINGS, ROLE_NAMES, TokenMask, mask_of, parse_mask
from analysis.query.query import LiveQuery
from analysis.retrieval.interventions import Intervention, Pool
from analysis.store import Store
from analysis.store.finding import Part, figure_part
from analysis.store.read import TokenView
from pages.components.concepts import token_views
from pages.components.live.token_picker import token_picker
from pages.components.shared import caching, method_builder, pins, state

RUN_LABEL = "Run the model on it"  # of a query from the data
_MASKED = "_live_masked_query"
_WORDS = {"image": "image", "text": "your text", "instruction": "instruction", "template": "template"}


def left_out(store: Store, query: LiveQuery | None, intervention: Intervention) -> tuple[TokenMask, Intervention]:
    """What is left out of the query, and the view's other steps.

    A link says it as a mask or as the queries' side of the pool step. Either becomes, in the address too, what this view
    has a control for: the mask row where a model ran, the step where a stored embedding answers.
    """
    if query is None:
        return NO_MASK, _as_step(store, intervention)
    mask = current_mask(query)
    if not query.maskable or intervention.pool.queries not in store.variants:
        return mask, intervention
    folded = _as_mask(mask, intervention, query.tokens.roles)
    if folded[0] != mask:  # a picture's variant asked of a text stays in the address: the next query may have a picture
        state.put_together({state.MASK: folded[0].spec, state.METHOD: folded[1].spec})
    return folded


def switch_run(store: Store, modality: str) -> None:
    """The switch was turned: what is left out takes the other form in the same step. modality: of the query."""
    on = bool(st.session_state["_live_run"])
    values: dict[str, object] = {state.RUN: 1 if on else None}
    with suppress(AnalysisError):  # what cannot be read is said when the page runs
        mask, intervention = parse_mask(state.get(state.MASK) or ""), method_builder.current()
        wanted, step = intervention.pool.queries, _as_variant(store, mask, intervention)
        if on and wanted != "mean" and wanted in store.variants:
            mask, intervention = _as_mask(mask, intervention, _roles_of(modality))
            values |= {state.MASK: mask.spec or None, state.METHOD: intervention.spec}
        elif not on and mask and step is not None:
            values |= {state.MASK: None, state.METHOD: step.spec}
    state.put_together(values)


def current_mask(query: LiveQuery) -> TokenMask:
    """The mask in the URL as far as this query has such tokens; what does not fit becomes a notice."""
    text = state.get(state.MASK) or ""
    if not text:
        return NO_MASK
    try:
        if not query.maskable:
            raise BackboneError(f"{query.unmaskable}.")
        mask = parse_mask(text)
        mask.masked(query.tokens.roles)
        return mask
    except AnalysisError as error:
        state.notice(f"The mask {state.shown(text)} does not fit this query: {error}")
        state.put(state.MASK, None)
        return NO_MASK


def _as_step(store: Store, intervention: Intervention) -> Intervention:
    """A stored query has no token states: a mask is the stored variant that leaves out the same, or waits for the model."""
    text = state.get(state.MASK) or ""
    if not text:
        return intervention
    try:
        changed = _as_variant(store, parse_mask(text), intervention)
    except AnalysisError as error:
        state.notice(f"The mask {state.shown(text)} cannot be read: {error}")
        state.put(state.MASK, None)
        return intervention
    if changed is None:
        why = (
            f"the embedding is the {store.embedding_words}, no mean of tokens."
            if store.one_vector
            else f"the store holds no such embeddings. Switch on “{RUN_LABEL}” to leave out these tokens."
        )
        state.notice(f"The mask {state.shown(text)} does not act on the stored query: {why}")
        return intervention
    state.put_together({state.MASK: None, state.METHOD: changed.spec})
    return changed


def _as_mask(mask: TokenMask, intervention: Intervention, roles: np.ndarray) -> tuple[TokenMask, Intervention]:
    """The queries' side of the pool step as part of the mask of tokens with these roles, and the other steps."""
    pooled = intervention.pool
    return mask.joined(mask_of(pooled.queries, roles)), intervention.with_pool(Pool(candidates=pooled.candidates))


def _as_variant(store: Store, mask: TokenMask, intervention: Intervention) -> Intervention | None:
    """The mask as the queries' side of the pool step, None where the store holds no such embeddings."""
    variants = [v for v in store.variants if v in VARIANTS]
    pooled, every = intervention.pool, np.array(list(ROLE_NAMES))
    if pooled.queries in variants:
        mask = mask.joined(mask_of(pooled.queries, every))
    same = next((variant for variant in variants if mask_of(variant, every) == mask), None)
    return None if same is None else intervention.with_pool(Pool(same, pooled.candidates))


def _roles_of(modality: str) -> np.ndarray:
    """Which roles the tokens of a query have."""
    absent = {"image": Role.TEXT, "text": Role.IMAGE}.get(modality)
    return np.array([role for role in ROLE_NAMES if role != absent], np.int8)


def forget(query: tuple[str, ...]) -> None:
    """Another query than the one before: roles stay masked; patches too where the picture is the same; single words do not,
    they would be other words by now. query: what it is made of, its picture and its text last."""
    before, st.session_state[_MASKED] = st.session_state.get(_MASKED), query
    if before in (None, query):
        return
    with suppress(AnalysisError):  # what cannot be read is said by `current_mask`
        mask = parse_mask(state.get(state.MASK) or "")
        same = before[:-1] == query[:-1]
        parts, kept = (
            tuple(part for part in found if same and part[0] == "image") for found in (mask.parts, mask.kept)
        )
        if mask.tokens or (parts, kept) != (mask.parts, mask.kept):
            _put(replace(mask, tokens=(), parts=parts, kept=kept))


def pin(store: Store, query: LiveQuery, mask: TokenMask) -> pins.Pin:
    """The tokens with what is left out, without the picture itself."""

    def parts() -> tuple[Part]:
        from analysis.figures.tokens import token_strip

        hidden = mask.masked(query.tokens.roles) if query.maskable else None
        return (figure_part(token_strip(query.tokens.strings, query.tokens.roles, masked=hidden, data=store.caption)),)

    kept = len(query.tokens) - int(mask.masked(query.tokens.roles).sum()) if query.maskable else len(query.tokens)
    words = f"{kept:,} of the query's {len(query.tokens):,} tokens are pooled"
    return pins.Pin(parts, title="Tokens of a live query", sentence=words)


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
        cells=query.tokens.cells,
        box=query.tokens.box,
        shade=shade,
        clickable=query.maskable,
    )
    st.caption(_explanation(store, query, mask, concept))


def where_from(store: Store, query: LiveQuery, mask: TokenMask, preview: str, concept: int) -> None:
    """The same tokens once more, to look at: beside the bar that was clicked."""
    token_picker(
        query.tokens.strings, query.role_names,
        mask.masked(query.tokens.roles) if query.maskable else np.zeros(len(query.tokens), bool),
        key="_live_tokens_shaded", on_toggle=lambda: None, picture=preview, grid=query.tokens.grid,
        cells=query.tokens.cells, box=query.tokens.box,
        shade=shares(store, query, mask, concept), clickable=False,
    )  # fmt: skip


def cached(store: Store, row: int, concept: int | None) -> None:
    """Tokens of a sample of the store, whose token codes were kept: to look at, not to mask."""
    view: TokenView | None = store.token_view(row)
    if view is None:
        st.caption(
            f"The store keeps token codes of {len(store.token_rows):,} samples, this is none of them. Switch on "
            f"“{RUN_LABEL}” above to see "
            + (
                "its tokens."
                if store.one_vector
                else "and mask its tokens; stored masks are under “Masks and pooling”."
            )
        )
        return
    token_picker(
        view.strings, [ROLE_NAMES.get(role, "pad") for role in view.roles.tolist()], np.zeros(len(view.roles), bool),
        key="_live_tokens_cached", on_toggle=lambda: None, picture=caching.picture(store, row), grid=view.grid,
        cells=view.cells, box=view.box,
        shade=None if concept is None else token_views.activation(view, concept), clickable=False,
    )  # fmt: skip
    where = "" if concept is None else f" Shaded by concept {concept} on each token."
    mask = "" if store.one_vector else f": switch on “{RUN_LABEL}” above to mask single tokens"
    st.caption(f"Stored token codes, to look at{mask}.{where}")


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
        _put(replace(mask, pooling=st.session_state["_live_pooling"]))

    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.session_state["_live_roles"] = [role for role in present if role in mask.roles]
        st.pills(
            "Leave out", present, selection_mode="multi", key="_live_roles", on_change=roles_changed, wrap=True,
            format_func=lambda role: f"w/o {_WORDS[role]}",
            help="w/o image and w/o prompt (text and instruction together) are the masks of the paper's Fig. 4. Single "
            "tokens and patches: click them. A region: drag a rectangle over the picture. Hidden states are kept, so nothing "
            "is computed anew.",
        )  # fmt: skip
        st.session_state["_live_pooling"] = mask.pooling
        st.segmented_control(
            "Pool", POOLINGS, key="_live_pooling", on_change=pooling_changed, required=True,
            format_func={"mean": "mean", "last": "last token"}.__getitem__,
        )  # fmt: skip
        st.button("Clear", on_click=_put, args=(NO_MASK,), disabled=not mask, icon=":material/backspace:")
        patches = query.tokens.roles == Role.IMAGE
        if 0 < mask.masked(query.tokens.roles)[patches].sum() < patches.sum():
            st.button(
                "All but this region", on_click=_put, args=(mask.inverted("image", query.tokens.roles),),
                icon=":material/invert_colors:", help="Leaves out the rest of the picture instead, and pools this region.",
            )  # fmt: skip


def _toggle(query: LiveQuery, mask: TokenMask) -> None:
    gesture = st.session_state["_live_tokens"]["toggle"]
    if gesture:
        _put(mask.toggled(gesture["positions"], bool(gesture["mask"]), query.tokens.roles))


def _put(mask: TokenMask) -> None:
    """The mask into the address. One that no link could hold is refused: cut short it would be another mask."""
    if len(mask.spec) > state.LONGEST:
        st.toast(
            f"These tokens take {len(mask.spec):,} characters to name and a link holds {state.LONGEST:,}: drag a rectangle "
            "over the patches, or leave out fewer single ones.",
            icon=":material/link_off:",
        )
        return
    state.put(state.MASK, mask.spec or None)


def _additive(store: Store, query: LiveQuery) -> bool:
    return query.maskable and store.config["sae"]["unit"] == "pooled"


def _explanation(store: Store, query: LiveQuery, mask: TokenMask, concept: int | None) -> str:
    tokens = query.tokens
    left_out = int(mask.masked(tokens.roles).sum()) if query.maskable else 0
    said = f"{len(tokens)} tokens" + (f", {left_out} left out" if left_out else "")
    if not query.maskable:
        said += f"; the embedding is the {store.embedding_words}, no mean of tokens, so they are shown and not masked"
    if concept is not None:
        said += (
            f". Shaded: what each token brings to concept {concept}; the shares and the bias add up to its activation"
            if _additive(store, query)
            else f". Shaded: activation of concept {concept} on each token by itself"
        )
    return said + "."
