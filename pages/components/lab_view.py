"""What the retrieval lab shows now: task, cut-offs, definition, and the interventions side by side."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from analysis.errors import AnalysisError
from analysis.retrieval.controls import random_control
from analysis.retrieval.interventions import Intervention, parse
from analysis.retrieval.movement import movement
from analysis.retrieval.recall import unanswerable
from analysis.retrieval.steps import ReAlign, Removal
from analysis.store import Store
from analysis.store.read import Task
from pages.components import caching, commands, gallery, state

CUTS = (1, 3, 5, 10, 20, 50, 100)
DEFINITIONS = {"hit": "any target in the first k", "fraction": "share of the targets in the first k"}


@dataclass(frozen=True)
class LabView:
    store: Store
    task: Task
    after: Intervention
    k: int
    ks: tuple[int, ...]
    definition: str

    @property
    def name(self) -> str:
        return self.task.task

    @property
    def specs(self) -> tuple[str, ...]:
        """Rows of the table: base, the view's intervention, its control, ReAlign, and what was added."""
        found = ["base", self.after.spec]
        removal = next((step for step in self.after.steps if isinstance(step, Removal)), None)
        if removal is not None and removal.score != "random":
            found.append(random_control(removal).spec)
        found += [Intervention((ReAlign(),)).spec, *also()]
        return tuple(dict.fromkeys(found))

    def recall(self) -> pd.DataFrame:
        return caching.recall(self.store, self.name, self.specs, self.ks, self.definition)

    def moved(self) -> pd.DataFrame:
        """One row a query: rank before, after, places gained, status at the view's k."""
        ranks = [caching.measured(self.store, self.name, spec).ranks[0] for spec in ("base", self.after.spec)]
        return movement(ranks[0], ranks[1], self.k)

    def command(self, query: int | None = None) -> str:
        """The command that prints the numbers of the table, or one query's lists."""
        if query is not None:
            one = (self.after.spec,) if self.after.steps else ()
            return commands.retrieve(self.store, self.name, one, query) + self._partner(one)
        methods = tuple(spec for spec in self.specs if spec != "base")
        cuts = ",".join(map(str, self.ks))
        definition = "" if self.definition == "hit" else f" --definition {self.definition}"
        return commands.retrieve(self.store, self.name, methods) + f" --k {cuts}{definition}" + self._partner(methods)

    def _partner(self, specs: tuple[str, ...]) -> str:
        hybrids = [hybrid for spec in specs if (hybrid := parse(spec).hybrid) is not None]
        if not hybrids:
            return ""
        return f" --partner {shlex.quote(commands.place(caching.by_id(hybrids[0].first, self.store.dataset).path))}"


def recall_controls() -> tuple[int, tuple[int, ...], str]:
    """(k in view, all cut-offs, definition of recall), each in the URL."""
    state.check_choice(state.DEFINITION, list(DEFINITIONS), default="hit", what="a definition of recall")
    with st.popover("Recall", icon=":material/tune:", help="Cut-offs and definition of recall"):
        chosen = st.pills(
            "Cut-offs k in the table",
            CUTS,
            selection_mode="multi",
            default=[1, 5, 10],
            key=state.KS,
            bind="query-params",
        )
        definition = st.radio(
            "What counts", list(DEFINITIONS), format_func=DEFINITIONS.__getitem__, key=state.DEFINITION, bind="query-params",
            help="hit: the paper, UniIR and CLIP; fraction: mteb. With one target a query both are the same.",
        )  # fmt: skip
    ks = tuple(sorted(int(k) for k in chosen)) or (1, 5, 10)
    state.check_choice(state.K, [str(k) for k in ks], default=str(ks[-1]), what="a cut-off k")
    k = st.segmented_control(
        "k in view", ks, default=ks[-1], key=state.K, bind="query-params", required=True,
        help="The lists, the curve and what counts as rescued use this cut-off.",
    )  # fmt: skip
    return int(k or ks[-1]), ks, definition


def facts(view: LabView) -> None:
    """Queries, candidates, missing targets and the prompts, in one line."""
    task = view.task
    lost = unanswerable(task.qrels)
    line = f"**{len(task.query_rows):,}** queries, **{len(task.candidate_rows):,}** candidates (the task's own pool)"
    line += (
        f", {task.missing_targets:,} targets missing from the pool" if task.missing_targets else ", no target missing"
    )
    line += f"; {lost:,} queries without any target count as misses" if lost else ""
    st.markdown(f"{line}." + (f" {gallery.escape(task.note)}" if task.note else ""))
    given = {side: " ".join(task.prompts.get(side, "").split()) for side in ("queries", "candidates")}
    prompts = {side: sentence for side, sentence in given.items() if sentence}
    if prompts and not view.store.contrastive:
        words = "; ".join(f"{side}: “{gallery.escape(sentence)}”" for side, sentence in prompts.items())
        st.caption(f"Instructions that the model read after the content — {words}")


def also() -> tuple[str, ...]:
    """Text forms of the rows that the visitor added; what cannot be read becomes a notice and is dropped."""
    good = []
    for text in (state.get(state.ALSO) or "").split(";"):
        if not text.strip():
            continue
        try:
            good.append(parse(text).spec)
        except (AnalysisError, ValueError) as error:
            state.notice(f"The link's row {state.shown(text)} cannot be read: {error}")
    return tuple(dict.fromkeys(good))


def add_rows(specs: tuple[str, ...]) -> None:
    state.put(state.ALSO, ";".join(dict.fromkeys((*also(), *specs))) or None)


def clear_rows() -> None:
    state.put(state.ALSO, None)
