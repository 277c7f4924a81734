"""What the retrieval lab shows now: task, cut-offs, definition, and the interventions side by side."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import streamlit as st

from analysis.errors import AnalysisError
from analysis.retrieval.evaluation.controls import (
    LARGE,
    parts,
    random_control,
    reference,
    seeds_for,
    untrained_control,
    with_first_stages,
)
from analysis.retrieval.evaluation.evaluate import recall_change
from analysis.retrieval.evaluation.lab import Lab, Measured
from analysis.retrieval.evaluation.movement import movement
from analysis.retrieval.interventions import BASE, Intervention, ReAlign, parse
from analysis.retrieval.recall import unanswerable
from analysis.retrieval.task import RetrievalSpace, queries_in_pool
from analysis.store import Store
from analysis.store.read import Task
from pages.components.shared import caching, commands, gallery, pins, state

CUTS = (1, 3, 5, 10, 20, 50, 100)
# The words stand below the options: an address holds what an option shows.
POOL_WORDS = {"local": "the task's own candidates", "global": "those of all tasks of the store"}
DEFINITIONS = {"hit": "any target in the first k", "fraction": "share of the targets in the first k"}


@dataclass(frozen=True)
class LabView:
    store: Store
    task: Task
    after: Intervention
    k: int
    ks: tuple[int, ...]
    definition: str
    pool: str = "local"
    partner: str = ""  # another backbone with this task, for hybrids
    added: tuple[Intervention, ...] = ()  # rows that the visitor added

    @property
    def name(self) -> str:
        return self.task.task

    @cached_property
    def methods(self) -> tuple[Intervention, ...]:
        """Rows of the table: base, the view's intervention, its controls, each of its parts alone, ReAlign, what was added,
        and the other model alone of every hybrid among them."""
        found = (self.control, None if self.untrained_problem else self.untrained)
        control = (method for method in found if method is not None)
        rows = (BASE, self.after, *control, *parts(self.after), Intervention((ReAlign(),)), *self.added)
        return with_first_stages(rows)

    @property
    def control(self) -> Intervention | None:
        """As many random concepts as the view's set of concepts, with its other steps."""
        chosen, size = self.after.controlled, self.store.n_concepts
        if chosen is None:
            return None
        return random_control(chosen, n_concepts=size, within=self.controlled, seeds=seeds_for(self.pairs))

    @property
    def untrained(self) -> Intervention | None:
        """As many concepts of the untrained SAE as the view's set of concepts."""
        chosen, size = self.after.controlled, self.store.n_concepts
        return None if chosen is None else untrained_control(chosen, n_concepts=size, within=self.controlled)

    @cached_property
    def untrained_problem(self) -> str:
        """Why that control is missing here; "" where it is not, or where there is nothing to control."""
        try:
            _ = self.untrained and self.space.untrained
        except AnalysisError as error:
            return str(error)
        return ""

    @property
    def pairs(self) -> int:
        return len(self.task.query_rows) * len(self.task.candidate_rows)

    @property
    def controlled(self) -> Intervention:
        """What controls are made of: the view's intervention, or on a large task nothing beside its removal, because there
        every seed of a whole chain takes seconds."""
        return self.after if self.pairs <= LARGE else BASE

    @property
    def late(self) -> tuple[Intervention, ...]:
        """Rows that take seconds, and were not yet measured for this visitor: random seeds of a chain of steps."""
        slow = (method for method in self.methods if len(method.steps) > 1 and len(method.seeds()) > 1)
        return tuple(method for method in slow if self._token(method) not in _known())

    def measured_late(self, method: Intervention) -> None:
        """From now on this row is measured and stands in the table at once."""
        _known().add(self._token(method))

    def _token(self, method: Intervention) -> tuple[str, ...]:
        return caching.store_id(self.store), self.name, self.pool, method.spec

    def recall_of(self, methods: tuple[Intervention, ...]) -> pd.DataFrame:
        return caching.recall(self.store, self.name, methods, self.ks, self.definition, self.pool)

    def change(self, method: Intervention, beside: Intervention) -> pd.Series:
        """Recall at the view's k of a method, and the paired difference to another one."""
        return recall_change(self.measured(beside), self.measured(method), self.k, self.definition)

    @property
    def reference(self) -> Intervention:
        """What the view's method has to beat: the base, or the better model of a hybrid."""
        return reference(self.after, lambda other: self.change(other, BASE)["recall"])

    def drawn(self, key: tuple[str | int | bool, ...], draw: Callable[[], caching.Drawn]) -> caching.Drawn:
        """A figure or table of this task's recall, made once for a key that names what else it depends on."""
        told = (self.name, self.pool, self.definition, ",".join(map(str, self.ks)), *key)
        return caching.drawn(self.store, told, draw)

    def measured(self, method: Intervention) -> Measured:
        return caching.measured(self.store, self.name, method, self.pool)

    @property
    def space(self) -> RetrievalSpace:
        return caching.task_space(self.store, self.name, self.pool)

    @property
    def lab(self) -> Lab:
        return caching.lab(self.store, self.name, self.pool)

    @property
    def data(self) -> str:
        """What a figure's caption says of its data."""
        pool = "" if self.pool == "local" else " in the global pool"
        return f"{self.name}{pool}, {len(self.task.query_rows):,} queries; {self.store.caption}"

    def measure(self, *methods: Intervention) -> dict[str, Any]:
        """How recall of some methods is measured again, for pins."""
        specs = [method.spec for method in dict.fromkeys((BASE, *methods))]
        return pins.measure(
            "recall", [self.store], task=self.name, methods=specs, k=self.k, definition=self.definition, pool=self.pool
        )

    def moved(self) -> pd.DataFrame:
        """One row a query: rank before, after, places gained, status at the view's k."""
        ranks = [self.measured(method).ranks[0] for method in (BASE, self.after)]
        return movement(ranks[0], ranks[1], self.k)

    def command(self, query: int | None = None, *, more: str = "") -> str:
        """The command that prints the numbers of the table, or one query's lists; more: what else to ask for."""
        if query is not None:
            one = (self.after,) if self.after.steps else ()
            return commands.retrieve(self.store, self.name, one, query, pool=self.pool) + more + self._partner(one)
        methods = tuple(method for method in self.methods if method != BASE)
        cuts = ",".join(map(str, self.ks))
        definition = "" if self.definition == "hit" else f" --definition {self.definition}"
        asked = commands.retrieve(self.store, self.name, methods, pool=self.pool)
        return f"{asked} --k {cuts}{definition}" + self._partner(methods)

    def command_for(self, asked: str) -> str:
        """The command for something of the view's own method: ` --curve r`, ` --diagnose`, ` --changed rescued`."""
        one = (self.after,) if self.after.steps else ()
        cuts = ",".join(map(str, self.ks)) if "--curve" in asked else str(self.k)
        counted = "--curve" in asked or "--diagnose" in asked
        definition = f" --definition {self.definition}" if counted and self.definition != "hit" else ""
        command = commands.retrieve(self.store, self.name, one, pool=self.pool)
        return f"{command}{asked} --k {cuts}{definition}{self._partner(one)}"

    def _partner(self, methods: tuple[Intervention, ...]) -> str:
        hybrids = [hybrid for method in methods if (hybrid := method.hybrid) is not None]
        if not hybrids:
            return ""
        return f" --partner {shlex.quote(commands.place(caching.by_id(hybrids[0].first, self.store.dataset).path))}"


def recall_controls() -> tuple[int, tuple[int, ...], str, str]:
    """(k in view, all cut-offs, definition of recall, pool), each in the URL."""
    state.check_choice(state.DEFINITION, list(DEFINITIONS), default="hit", what="a definition of recall")
    state.check_choice(state.POOL, list(POOL_WORDS), default="local", what="a pool of candidates")
    with st.popover("Recall", icon=":material/tune:", help="Cut-offs and definition of recall, pool of candidates"):
        chosen = st.pills(
            "Cut-offs k in the table",
            CUTS,
            selection_mode="multi",
            default=[1, 5, 10],
            **state.bound(state.KS),
        )
        definition = st.radio(
            "What counts", list(DEFINITIONS), captions=list(DEFINITIONS.values()), **state.bound(state.DEFINITION),
            help="hit: the paper, UniIR and CLIP; fraction: mteb. With one target a query both are the same.",
        )  # fmt: skip
        pool = st.radio(
            "Pool of candidates", list(POOL_WORDS), captions=list(POOL_WORDS.values()), **state.bound(state.POOL),
            help="global: whatever any task of this store retrieves, of all modalities, stands in the way of the targets.",
        )  # fmt: skip
    ks = tuple(sorted(int(k) for k in chosen)) or (1, 5, 10)
    state.check_choice(state.K, [str(k) for k in ks], default=str(ks[-1]), what="a cut-off k")
    k = st.segmented_control(
        "k in view", ks, default=ks[-1], **state.bound(state.K), required=True,
        help="The lists, the curve and what counts as rescued use this cut-off.",
    )  # fmt: skip
    return int(k or ks[-1]), ks, definition, pool


def facts(view: LabView) -> None:
    """Queries, candidates, missing targets and the prompts, in one line."""
    task = view.task
    lost = unanswerable(task.qrels)
    line = f"**{len(task.query_rows):,}** queries, **{len(task.candidate_rows):,}** candidates ({_pool(view)})"
    line += (
        f", {task.missing_targets:,} targets missing from the pool" if task.missing_targets else ", no target missing"
    )
    line += f"; {lost:,} queries without any target count as misses" if lost else ""
    st.caption(f"{line}." + (f" {gallery.escape(task.note)}" if task.note else ""))
    given = {side: " ".join(task.prompts.get(side, "").split()) for side in ("queries", "candidates")}
    prompts = {side: sentence for side, sentence in given.items() if sentence}
    if prompts and not view.store.contrastive:
        words = "; ".join(f"{side}: “{gallery.escape(sentence)}”" for side, sentence in prompts.items())
        where = "inside its trained template" if view.store.one_vector else "after the content"
        st.caption(f"Instructions that the model read {where} — {words}")


def _pool(view: LabView) -> str:
    """Which candidates these are; of a global pool what it holds."""
    if view.pool == "local":
        return "the task's own pool"
    held = view.store.samples["modality"].to_numpy()[view.task.candidate_rows]
    names = {"text": "texts", "image": "images", "image_text": "images with a text"}
    kinds = [f"{(held == modality).sum():,} {words}" for modality, words in names.items() if (held == modality).any()]
    own = queries_in_pool(view.task)
    alone = f"; {own:,} queries are candidates themselves and rank first for themselves" if own else ""
    return f"global pool: {', '.join(kinds)}{alone}"


def partner_problem(store: Store, task: str, method: Intervention) -> str:
    """Why the other model of a hybrid cannot be asked, "" when it can."""
    hybrid = method.hybrid
    if hybrid is None:
        return ""
    known = partners(store, task)
    expected = f"expected {' or '.join(known)}" if known else "no other store here holds this task of this data"
    try:
        other = caching.by_id(hybrid.first, store.dataset)
    except AnalysisError:
        return f"The other model of the hybrid, {state.shown(hybrid.first)}, has no store here; {expected}."
    if task not in other.tasks or other.dataset != store.dataset:
        return (
            f"The other model of the hybrid, {state.shown(hybrid.first)}, has no task {task} of this data; {expected}."
        )
    return ""


def partners(store: Store, task: str) -> tuple[str, ...]:
    """Backbones of other stores that hold the same task of the same data, for hybrids."""
    found: list[str] = []
    for ref in caching.stores():
        other = ref.ok and ref.dataset == store.dataset and ref.backbone not in (store.backbone, *found)
        if other and task in caching.open_ref(ref).tasks:
            found.append(ref.backbone)
    return tuple(found)


def _known() -> set[tuple[str, ...]]:
    known: set[tuple[str, ...]] = st.session_state.setdefault("_lab_late", set())
    return known


def also(store: Store, task: str) -> tuple[Intervention, ...]:
    """The rows that the visitor added; what cannot be read or asked becomes a notice and is dropped."""
    good = []
    for text in (state.get(state.ALSO) or "").split(";"):
        if not text.strip():
            continue
        try:
            method = parse(text)
        except (AnalysisError, ValueError) as error:
            state.notice(f"The link's row {state.shown(text)} cannot be read: {error}")
            continue
        problem = partner_problem(store, task, method)
        if problem:
            state.notice(f"The row {state.shown(text)} is left out. {problem}")
        else:
            good.append(method)
    return tuple(dict.fromkeys(good))


def add_rows(methods: tuple[Intervention, ...]) -> None:
    known = [text for text in (state.get(state.ALSO) or "").split(";") if text.strip()]
    added = (method.spec for method in methods)
    state.put(state.ALSO, ";".join(dict.fromkeys((*known, *added))) or None)


def clear_rows() -> None:
    state.put(state.ALSO, None)
