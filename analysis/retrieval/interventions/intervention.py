"""Interventions: steps in their order, with a name for people and one text form for machines.

The text form stands in URLs, commands and pinned findings: steps joined by "+", each `name:value,key=value`, e.g.
`removal:attribution,share=0.01,r=20+realign:alpha=0.1`, or `base` for none. `parse(text).spec` is its canonical form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from analysis.errors import RetrievalError, one_of
from analysis.retrieval.interventions.pool import Pool
from analysis.retrieval.interventions.registry import KINDS, family_of
from analysis.retrieval.interventions.step import (
    STAGES,
    CorrectsSimilarities,
    JoinsModels,
    MapsRows,
    Step,
    WeighsConcepts,
)

if TYPE_CHECKING:
    from analysis.retrieval.task import RetrievalSpace

LONGEST = 4000  # characters of a text form
MOST_STEPS = 12


@dataclass(frozen=True)
class Intervention:
    """Steps in the order of their application; none of them is the base. What decides which embeddings there are comes
    first, then what is done to concepts, then the maps of rows in the order given, then what corrects similarities, and
    last a hybrid."""

    steps: tuple[Step, ...] = ()
    title: str = ""  # a name given by the user; the label says the same in words otherwise

    def __post_init__(self) -> None:
        kinds = list(KINDS)

        def place(step: Step) -> tuple[int, int]:
            stage = STAGES.index(step.acts)
            return stage, 0 if step.several else kinds.index(step.name) if step.name in kinds else len(kinds)

        object.__setattr__(self, "steps", tuple(sorted((s for s in self.steps if s != Pool()), key=place)))
        if len(self.steps) > MOST_STEPS:
            raise RetrievalError(f"The method has {len(self.steps)} steps; expected at most {MOST_STEPS}.")
        single = [family_of(step).name for step in self.steps if not step.several]
        if len(set(single)) < len(single):
            raise RetrievalError(f"{self.spec!r} has two steps of one kind that exclude each other; expected one.")

    @cached_property
    def spec(self) -> str:
        """Canonical text form: `parse(self.spec)` has the same steps."""
        return "+".join(step.spec for step in self.steps) or "base"

    @cached_property
    def label(self) -> str:
        return self.title or " + ".join(step.label for step in self.steps) or "base"

    # --- its parts, by where they act -----------------------------------------------------------------------------
    @property
    def pool(self) -> Pool:
        return next((step for step in self.steps if isinstance(step, Pool)), Pool())

    @property
    def weighing(self) -> tuple[WeighsConcepts, ...]:
        """Steps on the concepts' part of every embedding."""
        return self._acting("concepts")

    @property
    def linear(self) -> tuple[MapsRows, ...]:
        """Steps that map unit rows, in their order."""
        return self._acting("rows")

    @property
    def correction(self) -> CorrectsSimilarities | None:
        """What is subtracted from similarities."""
        return next(iter(self._acting("similarities")), None)

    @property
    def hybrid(self) -> JoinsModels | None:
        return next(iter(self._acting("lists")), None)

    @property
    def single_projection(self) -> MapsRows | None:
        """The step of an intervention that does nothing but project plain embeddings, which is a low-rank update of
        similarities that are known; else None."""
        return next((step for step in self._only_linear if step.projects), None)

    def nested(self, setting: str) -> MapsRows | None:
        """`single_projection`, where all points along a setting are its narrower ones, which one computation gives."""
        projection = self.single_projection
        return projection if projection is not None and projection.rank_setting == setting else None

    @property
    def single_centring(self) -> MapsRows | None:
        """The same of one that does nothing but subtract means."""
        return next((step for step in self._only_linear if step.centres), None)

    @property
    def _only_linear(self) -> tuple[MapsRows, ...]:
        """The one step of an intervention that has one, which maps rows."""
        return self.linear if len(self.linear) == len(self.steps) == 1 else ()

    @property
    def controlled(self) -> Step | None:
        """The first step that has a control with random concepts."""
        return next((step for step in self.steps if step.control(1) is not None), None)

    def _acting(self, stage: str) -> Any:
        return tuple(step for step in self.steps if step.acts == stage)

    # --- the same with something changed --------------------------------------------------------------------------
    def without_hybrid(self) -> Intervention:
        return Intervention(tuple(step for step in self.steps if step.acts != "lists"), self.title)

    def with_pool(self, pool: Pool) -> Intervention:
        """The same with other embeddings."""
        return Intervention((pool, *(step for step in self.steps if step.acts != "embeddings")), self.title)

    def replaced(self, old: Step, new: Step | None) -> Intervention:
        """The same with another step in the place of one, or without it."""
        place = self.steps.index(old)
        added = () if new is None else (new,)
        return Intervention((*self.steps[:place], *added, *self.steps[place + 1 :]))

    def seeds(self) -> tuple[Intervention, ...]:
        """One intervention per random seed of its steps; itself when there is nothing to repeat."""
        repeats = [step.repeats() for step in self.steps]
        most = max(map(len, repeats), default=1)
        if most == 1:
            return (self,)
        return tuple(
            Intervention(tuple(found[i] if len(found) == most else found[0] for found in repeats)) for i in range(most)
        )

    def unexplained(self) -> str:
        """Why similarities under it cannot be split into concepts; "" when they can."""
        return next((step.unexplained for step in self.steps if step.unexplained), "")

    def removed_concepts(self, space: RetrievalSpace) -> frozenset[int]:
        """The concepts whose directions it projects away."""
        return frozenset().union(*(step.removed_concepts(space) for step in self.steps))

    # --- written --------------------------------------------------------------------------------------------------
    def to_dict(self) -> dict[str, str]:
        """JSON-ready: the spec says everything, the title is the user's."""
        return {"spec": self.spec, "title": self.title}

    @staticmethod
    def from_dict(raw: Mapping[str, str]) -> Intervention:
        return Intervention(parse(raw.get("spec", "base")).steps, raw.get("title", ""))


@lru_cache(maxsize=2048)
def parse(text: str) -> Intervention:
    """The intervention that a text form means. "base" or an empty text mean none; a blank counts as "+", which is what
    a browser makes of an unescaped plus. RetrievalError names what is wrong in a text."""
    if len(text) > LONGEST:
        raise RetrievalError(f"The method has {len(text):,} characters; expected at most {LONGEST:,}.")
    words = re.sub(r"\s*([:,=])\s*", r"\1", text.strip())
    parts = [part for part in re.split(r"[+\s]+", words) if part and part != "base"]
    return Intervention(tuple(_parse_step(part) for part in parts))


BASE = Intervention()


def _parse_step(text: str) -> Step:
    name, _, rest = text.partition(":")
    one_of("step", name, ("base", *KINDS))
    return KINDS[name].read([word for word in rest.split(",") if word])
