"""Pickers that several pages share. Each gives something that exists: nonsense in the URL becomes a notice and a default."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

import streamlit as st

from analysis.errors import AnalysisError
from analysis.models.specs import place_of
from analysis.store import Store, StoreRef
from pages.components.shared import caching, layout, safe, scores, state

DEFAULT_STORES, MOST_STORES = 6, 8
IN_VIEW = 12  # up to so many things to choose several of are always seen


def one_of(label: str, parameter: str, options: Sequence[str], *, what: str, help: str) -> str:
    """One of a few words, kept in the URL; by default the first. what: a noun for the notice about any other word."""
    state.check_choice(parameter, options, default=options[0], what=what)
    return st.segmented_control(
        label, options, default=options[0], required=True, **state.bound(parameter), help=help
    )  # fmt: skip


def store(
    label: str = "Model and data", *, key: str = state.STORE, beside: Store | None = None, weak: bool = False
) -> Store:
    """The store in the URL, or the first that opens; ends the page with the empty state when there is none. key: the
    parameter that names it; beside: a store that stands next to it, where there is a choice another one is the default;
    weak: the default is a model that learnt to describe, whose retrieval has something to gain."""
    refs = caching.stores()
    usable = _usable(refs)
    default = usable[0] if beside is None else _another(usable, beside)
    if weak:
        default = next((ref for ref in usable if not (ref.contrastive or ref.embedding_mllm)), default)
    wanted = state.chosen(key)
    chosen = _resolve(wanted, refs, usable, default) or default
    opened = _open_or_other(chosen, usable)
    ids = [caching.store_id(ref) for ref in usable]
    labels = dict(zip(ids, _labels(usable), strict=True))
    value = caching.store_id(opened)
    widget = f"_pick_{key}"
    st.session_state[widget] = value
    st.selectbox(
        label, ids, format_func=lambda i: labels.get(i, i), key=widget,
        on_change=lambda: state.put(key, st.session_state[widget]), width=260,
    )  # fmt: skip
    state.keep(key, value, default=caching.store_id(default), alias=_means(wanted, value))
    return opened


def stores(label: str = "Models and data") -> list[Store]:
    """One to eight stores, overlaid; by default one a backbone (at most six)."""
    refs = caching.stores()
    usable = _usable(refs)
    wanted = state.get(state.STORES)
    chosen: list[StoreRef] = []
    for part in (wanted or "").split(","):
        ref = _resolve(part, refs, usable) if part else None
        if ref is not None and ref not in chosen and len(chosen) < MOST_STORES:
            chosen.append(ref)
    if len((wanted or "").split(",")) > MOST_STORES:
        state.notice(
            f"The link names more than {MOST_STORES} stores, which is what stands side by side; showing the first."
        )
    default = _default_stores(usable)
    chosen = chosen or default
    several(
        label, dict(zip(map(caching.store_id, usable), _labels(usable), strict=True)), list(map(caching.store_id, chosen)),
        key="_pick_stores", most=MOST_STORES, then=lambda ids: state.put(state.STORES, ",".join(ids) or None),
    )  # fmt: skip
    opened = []
    for ref in chosen:
        try:
            opened.append(caching.open_ref(ref))
        except AnalysisError as error:
            state.notice(str(error))
    parts = (wanted or "").split(",")
    alias = len(parts) == len(opened) and all(map(_means, parts, map(caching.store_id, opened)))
    state.keep(
        state.STORES, ",".join(caching.store_id(item) for item in opened), alias=alias,
        default=",".join(caching.store_id(ref) for ref in default),
    )  # fmt: skip
    return opened or [_open_or_other(usable[0], usable)]


def several(
    label: str, options: Mapping[str, str], chosen: Sequence[str], *, key: str, most: int, then: Callable[[list[str]], None],
    help: str = "",
) -> None:  # fmt: skip
    """Some of several things, in the order in which they were chosen: each is seen, and whether it is among them. options:
    id -> words; then: told the ids, at most `most`. Many options fold away behind how many are chosen."""
    st.session_state[key] = list(chosen)

    def changed() -> None:
        picked = st.session_state[key]
        found = [*(one for one in chosen if one in picked), *(one for one in picked if one not in chosen)]
        if len(found) > most:
            st.toast(f"{most} stand side by side, no more: take one away first.", icon=":material/block:")
        then(found[:most])

    folded = len(options) > IN_VIEW
    with st.popover(f"{label}: {len(chosen)} of {len(options)}") if folded else nullcontext():
        st.pills(
            label, list(options), selection_mode="multi", key=key, on_change=changed, help=help or None, wrap=True,
            format_func=lambda one: safe.words(options[one]),
        )  # fmt: skip


def task(opened: Store, label: str = "Task") -> str | None:
    """One of the store's retrieval tasks, None when it has none."""
    return task_of(list(opened.tasks), label, whose=opened.label) if opened.tasks else None


def common_tasks(opened: list[Store]) -> list[str]:
    """Tasks of any of the stores, in the order in which they name them."""
    return list(dict.fromkeys(name for item in opened for name in item.tasks))


def chosen_task(tasks: list[str], *, whose: str = "This view") -> str | None:
    """The task in the URL if it is among some, else the first; None without tasks. Where its picker stands further down a
    page, call this with the controls, so that the link at the top names it."""
    if not tasks:
        return None
    wanted = state.get(state.TASK)
    if wanted is not None and wanted not in tasks:
        state.notice(f"{whose} has no task {state.shown(wanted)}, only {', '.join(tasks)}; showing {tasks[0]}.")
    value = wanted if wanted in tasks else tasks[0]
    state.keep(state.TASK, value, default=tasks[0])
    return value


def task_of(tasks: list[str], label: str = "Task", *, whose: str = "This view") -> str:
    """Picker for one of some retrieval tasks (at least one)."""
    value = chosen_task(tasks, whose=whose) or tasks[0]
    st.session_state["_pick_task"] = value
    st.selectbox(
        label, tasks, key="_pick_task", width=130, help=TASK_HELP,
        on_change=lambda: state.put(state.TASK, st.session_state["_pick_task"]),
    )  # fmt: skip
    return value


def concept(opened: Store) -> int:
    """The concept in the URL, or the strongest by energy. Draws nothing: the pages offer search, tables and links."""
    default = int(opened.concepts["energy"].to_numpy().argmax())
    value = state.get_int(
        state.CONCEPT, low=0, high=opened.n_concepts - 1, default=default, what=f"concept of {opened.label},"
    )
    state.keep(state.CONCEPT, value, default=default)
    return value


def concept_jump(opened: Store, value: int) -> None:
    """A number to type, and the way to the concepts before and after by id."""
    st.session_state["_jump"] = value
    st.number_input(
        "Concept", 0, opened.n_concepts - 1, key="_jump", width=130,
        on_change=lambda: state.put(state.CONCEPT, st.session_state["_jump"]),
    )  # fmt: skip
    for words, icon, other in (("Previous", "chevron_left", value - 1), ("Next", "chevron_right", value + 1)):
        state.view_button(words, place=words, icon=f":material/{icon}:", concept=other % opened.n_concepts)


def share(label: str = "Top share (%)", *, default: float = 1.0, width: int = 190) -> float:
    """Percent of all concepts that count as the top, as a share in (0, 1]."""
    options = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
    state.check_choice(
        state.SHARE, [f"{option:g}" for option in options], default=f"{default:g}", what="a top share (%) of"
    )
    value = st.select_slider(
        label, options, default, format_func=lambda option: f"{option:g}", width=width,
        **state.bound(state.SHARE, "{:g}".format),
        help="The m = max(1, floor(share x K)) concepts with the largest score (Eq. 7). The paper uses 1 %.",
    )  # fmt: skip
    return value / 100


def reduction(label: str = "Bridge as") -> str:
    """How the bridge matrix becomes one number a concept; a key of scores.REDUCTIONS."""
    options = list(scores.REDUCTIONS)
    state.check_choice(state.REDUCTION, options, default=options[0], what="a bridge reduction")
    return st.selectbox(
        label, options, **state.bound(state.REDUCTION), width=150,
        help="The paper does not say how the bridge matrix (Eq. 5) becomes one number a concept. max: the strongest link; "
        "diagonal: the link to itself; off_diagonal: all links to others; abs_sum: IsoEnergy's.",
    )  # fmt: skip


TASK_HELP = "Query modality 2 candidate modality: t = text, i = image, it = image and text."


def _usable(refs: list[StoreRef]) -> list[StoreRef]:
    usable = [ref for ref in refs if ref.ok]
    if not usable:
        layout.empty_cache(refs)
    return sorted(
        usable, key=lambda ref: (ref.out_of_world, place_of(ref.backbone), ref.backbone, _is_token_store(ref))
    )


def _another(usable: list[StoreRef], beside: Store) -> StoreRef:
    """Another store of the same data, of another backbone if there is one; the same store where it stands alone."""
    others = [ref for ref in usable if ref.path != beside.path and ref.dataset == beside.dataset]
    return next((ref for ref in others if ref.backbone != beside.backbone), others[0] if others else usable[0])


def _resolve(
    wanted: str | None, refs: list[StoreRef], usable: list[StoreRef], default: StoreRef | None = None
) -> StoreRef | None:
    """The reference that a URL names: by the whole id, the folder's name, or the backbone alone (then its store of pooled
    embeddings comes first). default: what the page shows where there is none."""
    if not wanted:
        return None
    refs, usable = (sorted(found, key=_is_token_store) for found in (refs, usable))
    meant = [ref for ref in refs if _means(wanted, caching.store_id(ref))]
    for ref in meant:
        if ref.ok:
            return ref
    if meant:
        state.notice(meant[0].problem)
        return None
    sibling = next((ref for ref in usable if ref.path.parent.name == wanted.split("/")[0]), None)
    if sibling is not None:
        state.notice(
            f"There is no store {state.shown(wanted)} here; showing {caching.store_id(sibling)} of the same model."
        )
        return sibling
    instead = "" if default is None else f"; showing {default.label}"
    state.notice(
        f"There is no store {state.shown(wanted)} in this cache (the page Stores lists what there is){instead}."
    )
    return None


def _is_token_store(ref: StoreRef) -> bool:
    return "token SAE" in ref.label


def _means(wanted: str | None, identity: str) -> bool:
    """Does a word in the URL name this store: by its whole id, its folder or its backbone?"""
    return wanted in (identity, *identity.split("/"))


def _open_or_other(ref: StoreRef, usable: list[StoreRef]) -> Store:
    """The store, or the next one that opens: it may have been damaged or removed since it was listed."""
    for candidate in [ref, *(other for other in usable if other != ref)]:
        try:
            return caching.open_ref(candidate)
        except AnalysisError as error:
            state.notice(str(error))
    state.place_notices(st.container())
    layout.empty_cache(caching.stores())
    raise AssertionError("empty_cache ends the page")


def _default_stores(usable: list[StoreRef]) -> list[StoreRef]:
    """One store a backbone, of pooled embeddings; others are one click away. Stores of token SAEs where there is nothing
    else. Where there are too many, the paper's kinds of models come first."""
    pooled = [ref for ref in usable if not _is_token_store(ref)]
    first: dict[str, StoreRef] = {}
    for ref in pooled or usable:
        first.setdefault(ref.backbone, ref)
    return sorted(first.values(), key=lambda ref: ref.embedding_mllm)[:DEFAULT_STORES]


def _labels(refs: list[StoreRef]) -> list[str]:
    """Labels that differ: stores that share one get the beginning of their key. A data set that all have is not repeated: the
    data line of every page says it, and a narrow rail has no room for it."""
    taken = [ref.label for ref in refs]
    shared = f" · {refs[0].dataset}" if refs and len({ref.dataset for ref in refs}) == 1 else ""
    if shared:
        taken = [label.replace(shared, "", 1) for label in taken]
    return [
        label if taken.count(label) == 1 else f"{label} · {ref.path.name.rsplit('-', 1)[-1][:6]}"
        for label, ref in zip(taken, refs, strict=True)
    ]
