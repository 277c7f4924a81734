"""The settings of each kind of step: one function a kind draws its widgets, `first` gives the step a chip starts with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from analysis.errors import AnalysisError
from analysis.retrieval.interventions import parse
from analysis.retrieval.interventions import (
    SCORE_LABELS,
    SCORES,
    VARIANT_LABELS,
    Centring,
    ConceptSpace,
    Edit,
    Fusion,
    Pool,
    PrincipalComponents,
    ReAlign,
    Removal,
    Rerank,
    Step,
)
from pages.components.shared import caching, state

if TYPE_CHECKING:
    from analysis.store import Store
    from pages.components.shared.method_builder import Builder

Change = Callable[[str, str, Any], None]  # kind of step, field, new value

SHARES = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0)  # percent
ALPHAS = (0.0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
EPSILONS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
SCALES = "concept=factor, e.g. 12=0, 99=2"
PICKED = 40  # concepts that can be picked by hand; an address holds some more
FACTORS = 6  # concepts whose factor has a field of its own; others are written as text
_STATISTICS = {
    "own": "each side its own",
    "support": "queries: the stored support set",
    "joint": "both sides together",
    "queries": "the queries'",
    "candidates": "the candidates'",
}
_SCORE_WORDS = {**SCORE_LABELS, "concepts": "hand-picked concepts", "random": "random concepts (control)"}


def first(builder: Builder, chip: str) -> Step:
    """The step that a chip adds when it is switched on."""
    match chip:
        case "removal":
            return Removal()
        case "realign":
            return ReAlign()
        case "centring":
            return Centring()
        case "pca":
            return PrincipalComponents()
        case "pool":
            masked = [variant for variant in builder.store.variants if variant != "mean"]
            return Pool(**{builder.pooled[0]: masked[0]}) if masked else Pool()
        case "edit":
            strongest = int(np.argmax(builder.store.concepts["energy"].to_numpy()))
            return Edit(((strongest, 0.0),))
        case "codes":
            return ConceptSpace()
        case _:
            return Rerank(first=builder.partners[0])


def settings(builder: Builder, step: Step, change: Change) -> None:
    """The widgets of one step, in a row."""
    _DRAW[type(step)](builder, step, change)


def dimensions(store: Store, step: Removal) -> int:
    """Of the space that a removal's concepts span: as many as the concepts, at most the width of the embeddings."""
    if step.score == "concepts":
        count = len(set(step.concepts))
    else:
        energy = store.concepts["energy"].to_numpy()
        whole = len(energy) if step.base == "all" else int((energy > 0).sum())
        count = max(1, int(np.floor(step.share * whole + 1e-9)))
    return min(count, _width(store))


def _width(store: Store) -> int:
    return int(store.embeddings("mean", np.array([0])).shape[1])


def _removal(builder: Builder, step: Removal, change: Change) -> None:
    key = f"_{builder.key}_removal"
    _select(
        f"{key}_score", "Concepts by", SCORES, step.score, _SCORE_WORDS, lambda v: _score(builder, step, v), width=210
    )
    if step.score == "concepts":
        _concepts(
            builder.store, f"{key}_ids", "Concepts", step.concepts, lambda v: _ids(v, change),
            help="Search by number or name, or type several numbers with commas between. Their directions are taken out of "
            "everything, also out of what other concepts put there.",
        )  # fmt: skip
    else:
        percent = round(100 * step.share, 6)
        _slide(
            f"{key}_share", "Share (%)", sorted({*SHARES, percent}), percent, lambda v: change("removal", "share", v / 100),
            help="The top share of concepts by this score. The paper removes 1 %.", width=180,
        )  # fmt: skip
        _select(
            f"{key}_base", "of", ("all", "live"), step.base, {"all": "all concepts", "live": "live concepts"},
            lambda v: change("removal", "base", v), width=135,
        )  # fmt: skip
    whole = dimensions(builder.store, step)
    # All of the embeddings' dimensions cannot be removed: then the end is one less, unless that is what was asked for.
    most = whole - 1 if whole == _width(builder.store) and step.r is not None else whole
    shown = most if step.r is None else min(step.r, most)
    if most > 1:
        st.session_state[f"{key}_r"] = shown
        st.slider(
            f"r, of {whole} dimensions", min(1, shown), most, key=f"{key}_r", width=200,
            on_change=lambda: change("removal", "r", _rank(st.session_state[f"{key}_r"], whole)),
            help="Leading directions of the space that these concepts span (Eq. 9). The paper does not say which r it uses: "
            "the curve shows all of them.",
        )  # fmt: skip
    if step.score == "random":
        _slide(f"{key}_seeds", "Seeds", [1, 3, 5, 10], step.seeds, lambda v: change("removal", "seeds", v), width=140)


def _realign(builder: Builder, step: ReAlign, change: Change) -> None:
    key = f"_{builder.key}_realign"
    _slide(
        f"{key}_alpha", "Shrinkage α", sorted({*ALPHAS, step.alpha}), step.alpha, lambda v: change("realign", "alpha", v),
        help="0 whitens with the covariance as measured, 1 only centres and scales. The authors use 0.1.",
    )  # fmt: skip
    _slide(
        f"{key}_eps", "ε", sorted({*EPSILONS, step.eps}), step.eps, lambda v: change("realign", "eps", v), width=170,
        help="Added to every eigenvalue; a second shrinkage. The authors use 1e-5.",
    )  # fmt: skip
    _select(
        f"{key}_statistics", "Mean and covariance of", tuple(_STATISTICS), step.statistics, _STATISTICS,
        lambda v: change("realign", "statistics", v), width=240,
    )  # fmt: skip


def _centring(builder: Builder, step: Centring, change: Change) -> None:
    words = {"side": "each side", "modality": "each modality", "joint": "both sides together"}
    _select(
        f"_{builder.key}_centring", "Mean of", tuple(words), step.means, words,
        lambda v: change("centring", "means", v), width=220,
    )  # fmt: skip


def _pca(builder: Builder, step: PrincipalComponents, change: Change) -> None:
    key = f"_{builder.key}_pca"
    _slide(
        f"{key}_n", "Components out", sorted({1, 2, 3, 5, 8, 12, 16, 24, 32, step.n}), step.n,
        lambda v: change("pca", "n", v),
    )  # fmt: skip
    st.session_state[f"{key}_centred"] = step.centred
    st.toggle(
        "Centred", key=f"{key}_centred", on_change=lambda: change("pca", "centred", st.session_state[f"{key}_centred"])
    )


def _pool(builder: Builder, step: Pool, change: Change) -> None:
    for side in builder.pooled:
        _select(
            f"_{builder.key}_pool_{side}", side.capitalize(), builder.store.variants, getattr(step, side), VARIANT_LABELS,
            partial(change, "pool", side), width=190,
        )  # fmt: skip


def _edit(builder: Builder, step: Edit, change: Change) -> None:
    key = f"_{builder.key}_edit"
    factors = dict(step.scales)
    _concepts(
        builder.store, key, "Scale concepts", tuple(factors), lambda v: _scales(v, factors, change),
        help=f"Search by number or name, or type {SCALES}. Only the concepts' own part z D of every embedding changes; the "
        "rest of their direction stays.",
    )  # fmt: skip
    for concept, factor in step.scales[:FACTORS]:
        name = f"{key}_{concept}"
        st.session_state[name] = factor
        st.number_input(
            f"{concept} ×", key=name, step=0.5, format="%g", width=118,
            on_change=lambda concept=concept, name=name: _factor(concept, st.session_state[name], factors, change),
            help="0 silences the concept, 1 leaves it, 2 doubles it.",
        )  # fmt: skip


def _codes(builder: Builder, step: ConceptSpace, change: Change) -> None:
    _select(
        f"_{builder.key}_codes", "Weight of a concept", ("idf", "equal"), step.weights,
        {"idf": "log(N / number it fires on)", "equal": "all equal"}, lambda v: change("codes", "weights", v), width=240,
    )  # fmt: skip


def _hybrid(builder: Builder, step: Rerank | Fusion, change: Change) -> None:
    key = f"_{builder.key}_hybrid"
    _select(
        f"{key}_kind", "How", ("rerank", "fusion"), step.name,
        {"rerank": "re-rank the top n of the other", "fusion": "add z-scored similarities"},
        lambda v: _swap(step, v), width=300,
    )  # fmt: skip
    _select(
        f"{key}_first", "Other store", tuple(dict.fromkeys((*builder.partners, step.first))), step.first, {},
        lambda v: change("hybrid", "first", v), width=260,
    )  # fmt: skip
    if isinstance(step, Rerank):
        _slide(
            f"{key}_n", "n", sorted({5, 10, 20, 50, 100, 200, 500, step.n}), step.n, lambda v: change("hybrid", "n", v)
        )
    else:
        weights = sorted({*(round(0.1 * i, 1) for i in range(11)), step.weight})
        _slide(f"{key}_weight", "Weight of this model", weights, step.weight, lambda v: change("hybrid", "weight", v))


_DRAW: dict[type, Callable[[Any, Any, Change], None]] = {
    Removal: _removal, ReAlign: _realign, Centring: _centring, PrincipalComponents: _pca, Pool: _pool, Edit: _edit,
    ConceptSpace: _codes, Rerank: _hybrid, Fusion: _hybrid,
}  # fmt: skip


def _select(
    key: str, label: str, options: Any, value: Any, words: dict[Any, str], then: Callable[[Any], None], *, width: int
) -> None:
    st.session_state[key] = value
    st.selectbox(
        label, tuple(dict.fromkeys((*options, value))), format_func=lambda option: words.get(option, str(option)), key=key,
        on_change=lambda: then(st.session_state[key]), width=width,
    )  # fmt: skip


def _slide(
    key: str, label: str, options: list, value: Any, then: Callable[[Any], None], *, help: str = "", width: int = 240
) -> None:
    st.session_state[key] = value
    st.select_slider(
        label, options, format_func=lambda option: f"{option:g}", key=key, on_change=lambda: then(st.session_state[key]),
        help=help or None, width=width,
    )  # fmt: skip


def _concepts(
    store: Store, key: str, label: str, chosen: tuple[int, ...], then: Callable[[list[int | str]], None], *, help: str
) -> None:
    """A searchable list of the store's concepts by number and name; what is typed and no entry comes as text."""
    ids = sorted({*range(store.n_concepts), *chosen})
    names = caching.concept_names(store, range(store.n_concepts))

    def title(concept: int | str) -> str:
        name = names[concept] if isinstance(concept, int) and concept < len(names) else ""
        return f"{concept} · {name}" if name else str(concept)

    st.session_state[key] = list(chosen)
    st.multiselect(
        label, ids, format_func=title, key=key, accept_new_options=True, help=help, width=380,
        max_selections=max(PICKED, len(chosen)),
        on_change=lambda: then(st.session_state[key]), placeholder="Search by number or name",
    )  # fmt: skip


def _rank(value: int, whole: int) -> int | None:
    """All dimensions are written without their number, which stays right when the share is changed."""
    return None if value == whole else value


def _score(builder: Builder, step: Removal, score: str) -> None:
    from pages.components.shared.method_builder import add_step

    if score == "concepts":
        strongest = int(np.nanargmax(builder.store.concepts["attribution"].to_numpy()))
        add_step(Removal("concepts", concepts=(strongest,)))
        return
    add_step(Removal(score, share=step.share, r=step.r, base=step.base, seeds=10 if score == "random" else 1))


def _ids(chosen: list[int | str], change: Change) -> None:
    """Numbers from the list and from text such as 12, 99, in their order."""
    found: list[int] = []
    for entry in chosen:
        try:
            found += [entry] if isinstance(entry, int) else map(int, entry.replace(",", " ").split())
        except ValueError:
            state.notice(f"{state.shown(str(entry))} is no concept; expected a number or a name from the list.")
            return
    if not found:
        state.notice("A removal needs at least one concept; switch Removal off to remove none.")
        return
    change("removal", "concepts", tuple(dict.fromkeys(found)))


def _scales(chosen: list[int | str], factors: dict[int, float], change: Change) -> None:
    """What is new is silenced, or gets the factor of a text such as 12=0, 99=2."""
    scales: dict[int, float] = {}
    try:
        for entry in chosen:
            if isinstance(entry, int):
                scales[entry] = factors.get(entry, 0.0)
                continue
            parts = [part if "=" in part else f"{part}=0" for part in entry.replace(",", " ").split()]
            edit = parse("edit:" + ",".join(parts)).edit
            scales |= dict(edit.scales) if edit is not None else {}
        if not scales:
            raise AnalysisError("No concept is named; switch Concept edits off to scale none.")
        change("edit", "scales", tuple(scales.items()))
    except AnalysisError as error:
        state.notice(str(error))


def _factor(concept: int, factor: float | None, factors: dict[int, float], change: Change) -> None:
    if factor is not None:
        change("edit", "scales", tuple((factors | {concept: float(factor)}).items()))


def _swap(step: Rerank | Fusion, kind: str) -> None:
    from pages.components.shared.method_builder import add_step

    add_step(Rerank(first=step.first) if kind == "rerank" else Fusion(first=step.first))
