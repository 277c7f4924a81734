"""Which concepts a step means: the top share by a score, an extreme of the modality score, a random draw, or names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.concepts.scores import removal_ends, removal_values
from analysis.errors import RetrievalError
from analysis.retrieval.interventions.settings import (
    MOST,
    Setting,
    check_whole,
    choice,
    concepts,
    number,
    settings_of,
    whole,
)
from analysis.retrieval.removal import check_concepts

if TYPE_CHECKING:
    from analysis.retrieval.interventions.step import Offer, Step
    from analysis.retrieval.task import RetrievalSpace

ScoreColumn = Callable[[str], np.ndarray]  # name of a column of the concept table -> (K,)

UNRANKED = {"concepts": "hand-picked", "random": "random (control)"}  # by hand or by lot
_BESIDE = ("attribution", "energy", "bridge_max", "modality_text", "modality_image")  # scores that controls go by
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
MOST_SEEDS = 100


def score_setting() -> Any:
    return choice("attribution", _Choices(), label="Concepts by", what="score", positional=True, width=210)


def concepts_setting() -> Any:
    return concepts(
        help="Search by number or name, or type several numbers with commas between. Their directions are taken out of "
        "everything, also out of what other concepts put there."
    )


def share_setting() -> Any:
    return number(
        0.01, low=0, high=1, label="Share (%)", what="share of concepts", percent=True, written=True, values=SHARES,
        axis="share of concepts", help="The top share of concepts by this score. The paper removes 1 %.",
    )  # fmt: skip


def base_setting() -> Any:
    return choice(
        "all", {"all": "all concepts", "live": "live concepts"}, label="of", what="percentage base", width=135
    )


def seed_setting() -> Any:
    return whole(0, high=2**31 - 1, label="Seed", what="seed")


def seeds_setting() -> Any:
    return whole(1, low=1, high=MOST_SEEDS, label="Seeds", what="number of seeds", width=140)


class _Choices(Mapping[str, str]):
    """Every score that ranks concepts, as they are registered now, and the two sets that no score orders."""

    def __getitem__(self, name: str) -> str:
        return score_labels()[name] if name not in UNRANKED else UNRANKED[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*score_labels(), *UNRANKED))

    def __len__(self) -> int:
        return len(score_labels()) + len(UNRANKED)


def score_labels() -> dict[str, str]:
    """Name of a set -> what people read, of every score that ranks concepts (see `analysis.concepts.scores`)."""
    return {name: end.label for name, (_, end) in removal_ends().items()}


class TakesConcepts:
    """A step that is about a set of concepts. Its class declares score, concepts, share, base, seed and seeds with the
    functions above."""

    score: str
    concepts: tuple[int, ...]
    share: float
    base: str
    seed: int
    seeds: int

    def check(self) -> None:
        for concept in self.concepts:
            check_whole("concept", concept, 0, MOST)
        if (self.score == "concepts") != bool(self.concepts):
            raise RetrievalError(
                f"{self.step.title or self.step.name} by {self.score!r} names {len(self.concepts)} concepts; expected ids with "
                f"the score 'concepts' and none with another, e.g. {self.step.name}:concepts=12,99."
            )

    @property
    def step(self) -> Step:
        return self  # type: ignore[return-value]

    @property
    def picked(self) -> bool:
        """Chosen by hand: no share says how many."""
        return self.score == "concepts"

    def written(self) -> list[str]:
        """Hand-picked concepts stand alone; a share of them has no meaning."""
        words = super().written()  # type: ignore[misc]
        if not self.picked:
            return words
        named = f"concepts={','.join(map(str, self.concepts))}"
        return [named, *(w for w in words if not w.startswith(("concepts", "share=", "score=")))]

    @classmethod
    def completed(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {"score": "concepts", **values} if values.get("concepts") else values

    def amount(self, space_words: str = "") -> str:
        """ "top 1 % of live", or which concepts."""
        if self.picked:
            shown = ", ".join(map(str, self.concepts[:3])) + (" ..." if len(self.concepts) > 3 else "")
            return f"concept{'s' * (len(self.concepts) > 1)} {shown}{space_words}"
        live = " of live" if self.base == "live" else ""
        amount = f"{100 * self.share:g} %{live}{space_words}"
        if self.score == "random":
            repeats = self.step.repeats()
            which = f"{len(repeats)} seeds" if len(repeats) > 1 else f"seed {self.seed}"
            return f"random concepts, {amount} ({which})"
        return f"by {score_labels()[self.score]}, top {amount}"

    def ids(self, space: RetrievalSpace) -> np.ndarray:
        return concept_ids(self, space.score)

    # --- offered on pages -----------------------------------------------------------------------------------------
    def shown(self, offer: Offer) -> Mapping[str, Setting]:
        """A share or names, whichever it goes by; seeds where there is something to draw."""
        hidden = {"seed", "share", "base", "seeds"} if self.picked else {"seed", "concepts"}
        hidden |= set() if self.score == "random" else {"seeds"}
        shown = {name: setting for name, setting in settings_of(type(self)).items() if name not in hidden}
        if "seeds" in shown:
            shown["seeds"] = replace(shown["seeds"], values=(1, 3, 5, 10))
        return shown

    def changed(self, name: str, value: Any, offer: Offer) -> Any:
        if name == "concepts" and not value:
            raise RetrievalError(
                f"{self.step.title or self.step.name} needs at least one concept; switch it off to take none."
            )
        if name != "score":
            return replace(self, **{name: value})  # type: ignore[type-var]
        if value == "concepts":
            return replace(
                self, score=value, concepts=(offer.strongest("attribution") or 0,), share=0.01, seed=0, seeds=1
            )  # type: ignore[type-var]
        return replace(self, score=value, concepts=(), seed=0, seeds=10 if value == "random" else 1)  # type: ignore[type-var]

    # --- repetition and controls ----------------------------------------------------------------------------------
    def repeats(self) -> tuple[Any, ...]:
        if self.score != "random" or self.seeds == 1:
            return (self,)
        return tuple(replace(self, seed=self.seed + i, seeds=1) for i in range(self.seeds))  # type: ignore[type-var]

    def curve_values(self, setting: str) -> tuple[float, ...]:
        """No share says how many hand-picked concepts to take, and a draw has no order along it."""
        if setting == "share" and self.score in UNRANKED:
            return ()
        return super().curve_values(setting)  # type: ignore[misc]

    def sized(self, n_concepts: int) -> Any:
        if not self.picked:
            return self
        return replace(self, share=share_of(len(set(self.concepts)), n_concepts), base="all")  # type: ignore[type-var]

    def control(self, seeds: int) -> Any:
        if self.score == "random":
            return None
        return replace(self, score="random", concepts=(), seed=0, seeds=seeds)  # type: ignore[type-var]

    def alternatives(self) -> tuple[Any, ...]:
        beside = [score for score in _BESIDE if score != self.score]
        return tuple(replace(self, score=score, concepts=(), seed=0, seeds=1) for score in beside)  # type: ignore[type-var]

    def by_every_score(self) -> list[Any]:
        """The same by each score that ranks concepts."""
        return [replace(self, score=score, concepts=(), seed=0, seeds=1) for score in score_labels()]  # type: ignore[type-var]


def concept_ids(chosen: Any, column: ScoreColumn) -> np.ndarray:
    """Ids of the concepts of a set, most extreme first (ascending for random and hand-picked ones).

    m = max(1, floor(share * n)), n being all K concepts or the live ones (energy > 0). Concepts without a score (NaN:
    never active) are never chosen; equal scores go to the stronger, then to the lower id. A random draw is among live
    concepts only, because a control that removes dead atoms would remove nothing. RetrievalError when none is left, and
    for a picked id that is no concept.
    """
    if chosen.score == "concepts":
        picked = np.unique(np.asarray(chosen.concepts, np.int64))
        check_concepts(picked, len(column("energy")))
        return picked
    energy = np.nan_to_num(np.asarray(column("energy"), np.float64))
    live = np.flatnonzero(energy > 0)
    m = counted(chosen, energy)
    if chosen.score == "random":
        drawn = np.random.default_rng(chosen.seed).choice(live, min(m, len(live)), replace=False)
        ids = np.sort(drawn)
    else:
        score = removal_values(chosen.score, column)
        known = np.flatnonzero(np.isfinite(score) & ((energy > 0) | (chosen.base == "all")))
        ids = known[np.lexsort((known, -energy[known], -score[known]))][:m]
    if not len(ids):
        raise RetrievalError(
            f"No concept has a score for removal by {chosen.score!r}; expected at least one live one. A store that is older "
            "than the score gets it by `.venv/bin/python -m analysis rescore STORE`."
        )
    return ids


def counted(chosen: Any, energy: np.ndarray) -> int:
    """Concepts that the share of a set means: of all K, or of the live ones, whose energy (K,) is above 0."""
    energy = np.asarray(energy)
    return how_many(chosen.share, len(energy) if chosen.base == "all" else int((energy > 0).sum()))


def how_many(share: float, n: int) -> int:
    """Concepts in a share of n: at least one. 0.07 * 100 is 7.000000000000001, and 0.29 * 100 is 28.99..."""
    return max(1, int(np.floor(share * n + 1e-9)))


def share_of(count: int, n: int) -> float:
    """The shortest share that stands for so many of n concepts (`how_many`): 0.02 for 5 of 256."""
    ends = (math.ceil(min(count / n, 1) * 10**digits) / 10**digits for digits in range(2, 12))
    return next((share for share in ends if share <= 1 and how_many(share, n) == min(count, n)), min(count / n, 1))
