"""What a step of an intervention is: one class in one file of this folder, or of a researcher's own (see `plugins`).

A step declares its settings as dataclass fields (`settings`), says in a ClassVar where it acts, and implements what its
base class asks for. Everything else has a default: the text form, the widgets, curves over its numeric settings, its row
in the catalogue, how a why-panel splits it, what happens on a task that is larger than memory. Nothing outside this folder
asks what class a step has.

| base | acts on | implements |
|---|---|---|
| `ChoosesEmbeddings` | which stored embedding a side uses | `variant(side)` |
| `WeighsConcepts` | the concepts' part of every embedding | `factors(space)` |
| `MapsRows` | unit rows, by an affine map | `fit(context)`, and `fit_moments(context)` or the default refusal |
| `CorrectsSimilarities` | similarities: s(q, c) - b_c | `bias(columns, bank)` |
| `JoinsModels` | lists of two models | `ranks`, `lists`, `hubs` |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from analysis.errors import RetrievalError, one_of
from analysis.retrieval.interventions.settings import Setting, as_text, settings_of

if TYPE_CHECKING:
    import scipy.sparse as sp

    from analysis.retrieval.interventions.context import BlockContext, Context
    from analysis.retrieval.interventions.removal import Removal
    from analysis.retrieval.ranking.lists import Lists
    from analysis.retrieval.ranking.ranks import TargetRanks
    from analysis.retrieval.ranking.similarities import Scores
    from analysis.retrieval.ranking.transforms import Transform
    from analysis.retrieval.task import RetrievalSpace

Self = TypeVar("Self", bound="Step")
STAGES = ("embeddings", "concepts", "rows", "similarities", "lists")  # in the order in which they act


@dataclass(frozen=True)
class Family:
    """Steps that exclude each other and share one chip on a page."""

    name: str
    title: str
    help: str


@dataclass(frozen=True)
class Offer:
    """What there is to choose from where a step is offered. variants: stored poolings and masks; partners: backbones of
    other stores of the same candidates; score(name) -> (K,) a column of the concept table; width: D of the embeddings;
    sides: whose pooling can be chosen here."""

    variants: tuple[str, ...] = ("mean",)
    partners: tuple[str, ...] = ()
    score: Callable[[str], np.ndarray] = lambda name: np.empty(0)
    width: int = 0
    sides: tuple[str, ...] = ("queries", "candidates")

    @property
    def n_concepts(self) -> int:
        return len(self.score("energy"))

    def strongest(self, name: str) -> int | None:
        """The concept with the largest score; None where none has one."""
        try:
            values = np.asarray(self.score(name), np.float64)
        except (RetrievalError, KeyError):
            return None
        return int(np.nanargmax(values)) if np.isfinite(values).any() else None


Examples = Mapping[str, Sequence[tuple["Step", ...]]]  # group of the catalogue -> chains of steps


class Step:
    """One step of an intervention. Frozen; equal settings make equal steps."""

    name: ClassVar[str] = ""  # in text forms: letters, digits and _
    title: ClassVar[str] = ""  # on a chip, and of a label without settings
    help: ClassVar[str] = ""  # one sentence
    family: ClassVar[Family | None] = None
    acts: ClassVar[str] = ""  # one of STAGES
    rank_setting: ClassVar[str] = ""  # the setting that counts leading directions of one nested subspace
    several: ClassVar[bool] = False  # may a chain hold it more than once?
    source: ClassVar[str] = ""  # the file of a step from outside the repository

    def __post_init__(self) -> None:
        for name, setting in settings_of(type(self)).items():
            setting.check(getattr(self, name))
        self.check()

    def check(self) -> None:
        """Raise RetrievalError where settings do not fit each other."""

    # --- words ----------------------------------------------------------------------------------------------------
    @property
    def label(self) -> str:
        """What people read: the title and every setting that is not at its default."""
        said = []
        for part in fields(self):  # type: ignore[arg-type]  # every step is a dataclass
            value = getattr(self, part.name)
            if value != part.default:
                said.append(f"{part.name} = {as_text(value)}")
        return ", ".join([self.title or self.name, *said])

    @property
    def spec(self) -> str:
        """Canonical text form."""
        words = self.written()
        return self.name + (":" + ",".join(words) if words else "")

    def written(self) -> list[str]:
        """The settings of the text form: the positional one first, others where they are not at their default."""
        words = []
        declared = settings_of(type(self))
        for part in fields(self):  # type: ignore[arg-type]
            value, setting = getattr(self, part.name), declared.get(part.name)
            if setting is not None and setting.positional:
                words.append(as_text(value))
            elif value != part.default or (setting is not None and setting.written):
                words.append(f"{part.name}={as_text(value)}")
        return words

    @classmethod
    def read(cls: type[Self], words: Sequence[str]) -> Self:
        """The step that the words behind `name:` mean. RetrievalError names what is wrong."""
        declared = settings_of(cls)
        first = next((name for name, setting in declared.items() if setting.positional), None)
        values: dict[str, Any] = {}
        for position, word in enumerate(words):
            key, given, text = word.partition("=")
            ids = next((name for name in values if declared[name].kind == "concepts"), None)
            if not given and ids is not None and word.isdigit():
                values[ids] += (int(word),)
            elif not given and position == 0 and first is not None:
                values[first] = declared[first].read(cls.name, first, word)
            else:
                one_of(f"setting of {cls.name}", key, tuple(declared))
                values[key] = declared[key].read(cls.name, key, text)
        return cls(**cls.completed(values))

    @classmethod
    def completed(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Settings that follow from others of a text."""
        return values

    # --- where it is offered --------------------------------------------------------------------------------------
    @classmethod
    def offered(cls, offer: Offer) -> bool:
        return True

    @classmethod
    def start(cls: type[Self], offer: Offer) -> Self:
        """The step that a chip adds."""
        return cls()

    def shown(self, offer: Offer) -> Mapping[str, Setting]:
        """The settings that can be changed here, with ranges and choices as they are on this store."""
        return settings_of(type(self))

    def changed(self: Self, name: str, value: Any, offer: Offer) -> Self:
        """The same after somebody set one setting."""
        return replace(self, **{name: value})  # type: ignore[type-var]

    def fitted_to(self: Self, offer: Offer) -> tuple[Self, str]:
        """The same within what this store can give, and the sentence that says what was cut ("" when nothing)."""
        return self, ""

    @classmethod
    def examples(cls, offer: Offer, template: Step) -> Examples:
        """Rows of the catalogue. template: the step with a share of concepts that others are compared with."""
        return {cls.title or cls.name: [(cls.start(offer),)]} if cls.offered(offer) else {}

    # --- repetition, controls, curves -----------------------------------------------------------------------------
    def repeats(self: Self) -> tuple[Self, ...]:
        """One step a random seed; itself when nothing is random."""
        return (self,)

    def sized(self, n_concepts: int) -> Step:
        """The same with a share that says how many of so many concepts it takes, for controls that take as many: differs for
        hand-picked ones."""
        return self

    def control(self, seeds: int) -> Step | None:
        """The same with random concepts in the place of the chosen ones, several seeds; None without concepts to choose."""
        return None

    def alternatives(self) -> tuple[Step, ...]:
        """The same by other scores, for the table of controls."""
        return ()

    def template(self) -> Removal | None:
        """The share of concepts that it chooses, as the removal that others are compared with; None without a share."""
        return None

    def simpler(self) -> tuple[Step, ...]:
        """Simpler corrections, each a level line beside its curves."""
        return ()

    def curve_values(self, setting: str) -> tuple[float, ...]:
        """Where a curve over a setting is measured; none: no curve."""
        declared = settings_of(type(self)).get(setting)
        return declared.values if declared is not None and declared.kind in ("number", "whole") else ()

    def curve_settings(self) -> tuple[str, ...]:
        """Settings with a curve, the most telling first."""
        return tuple(name for name in settings_of(type(self)) if self.curve_values(name))

    def at(self: Self, setting: str, value: float | None) -> Self | None:
        """The same at another place of a curve; None as value: at the default. Returns None where that is no step at all
        (no direction removed)."""
        declared = settings_of(type(self))[setting]
        default = next(part.default for part in fields(self) if part.name == setting)  # type: ignore[arg-type]
        if value is None:
            return replace(self, **{setting: default})  # type: ignore[type-var]
        return replace(self, **{setting: int(value) if declared.kind == "whole" else float(value)})  # type: ignore[type-var]

    # --- what it needs and how it is explained --------------------------------------------------------------------
    @property
    def uses_queries(self) -> bool:
        """Whether it is fitted on the queries of the task, so that it matters how those are pooled."""
        return False

    @property
    def centres_queries(self) -> bool:
        """Whether what it measured on the task's queries suits queries of the same modality only."""
        return False

    @property
    def prefers_stored(self) -> bool:
        """Whether stored statistics of a support set come before those of the task's own queries."""
        return False

    @property
    def names_concepts(self) -> bool:
        """Whether it names concepts by their numbers, which are other concepts in another SAE."""
        numbered = (name for name, setting in settings_of(type(self)).items() if setting.kind in ("concepts", "scales"))
        return any(getattr(self, name) for name in numbered)

    @property
    def unexplained(self) -> str:
        """Why similarities under this step do not split into concepts; "" when they do."""
        return ""

    @property
    def block_refusal(self) -> str:
        """Why it has no answer on a task that is larger than memory, "" when it has one."""
        return ""

    def removed_concepts(self, space: RetrievalSpace) -> frozenset[int]:
        """Concepts whose directions it projects away."""
        return frozenset()


class ChoosesEmbeddings(Step):
    """Which stored embedding each side uses."""

    acts: ClassVar[str] = "embeddings"

    def variant(self, side: str) -> str:
        """Name of the stored embeddings of "queries" or "candidates"."""
        raise NotImplementedError


class WeighsConcepts(Step):
    """Multiplies concepts: h + sum_i (w_i - 1) z_i D_i, or, where `alone`, sum_i w_i z_i D_i."""

    acts: ClassVar[str] = "concepts"
    alone: ClassVar[bool] = False  # the embedding is replaced by its concepts' part

    def factors(self, space: RetrievalSpace) -> np.ndarray:
        """(K,) what each activation is multiplied by."""
        raise NotImplementedError

    @property
    def block_refusal(self) -> str:
        return "it needs the codes of all candidates at once"


class MapsRows(Step):
    """An affine map of unit rows, fitted on both sides of a task: x -> normalise((x - m) T)."""

    acts: ClassVar[str] = "rows"
    several: ClassVar[bool] = True
    looks_at_rows: ClassVar[bool] = True  # False: `fit` uses nothing but context.space, so blocks need nothing else

    def fit(self, context: Context) -> tuple[Transform, Transform]:
        """(transform of queries, transform of candidates); see `ranking.transforms` for ready ones."""
        raise NotImplementedError

    def fit_moments(self, context: BlockContext) -> tuple[Transform, Transform]:
        """The same from sums over rows that are never held together. RetrievalError says why that cannot be."""
        raise RetrievalError(
            f"{self.label!r} needs all {context.space.n_candidates:,} candidates in memory, more than is free; use a machine "
            "with more memory, or give the step a `fit_moments`."
        )

    @property
    def projects(self) -> bool:
        """Whether it does nothing but remove the directions of `basis`, the same on both sides."""
        return False

    @property
    def centres(self) -> bool:
        """Whether it does nothing but subtract means: its transforms then give `means_of`."""
        return False

    def basis(self, context: Context) -> np.ndarray:
        """(r, D) orthonormal rows, the most important first; of a step that `projects`."""
        raise NotImplementedError

    def widest(self: Self, width: int) -> Self:
        """Of a step that `projects`: the one whose basis begins with the basis of every narrower one."""
        return self

    def rank_in(self, rank: int) -> int:
        """Of a step that `projects`: how many of the `rank` directions of the widest it removes."""
        return rank


class CorrectsSimilarities(Step):
    """Ranks by s(q, c) - b_c, with b_c measured on a bank of queries."""

    acts: ClassVar[str] = "similarities"

    def bias(self, columns: Callable[[], Any], bank: int) -> np.ndarray:
        """(C,) float64. columns(): an iterator over (start, similarities (B, c) float32 of the B bank queries with the
        candidates start, start + 1, ...), which may be asked for again; bank: B."""
        raise NotImplementedError

    @property
    def bank(self) -> str:
        """ "half": every half of the queries is corrected by the other; "queries": by the test queries themselves."""
        return "half"

    @property
    def only_hubs(self) -> bool:
        """Whether only queries are corrected whose first candidate is the first of some bank query."""
        return False

    @property
    def uses_queries(self) -> bool:
        return True

    @property
    def centres_queries(self) -> bool:
        return True


class JoinsModels(Step):
    """Lists of this model and of another backbone, whose base is the first stage. `first`: its name."""

    acts: ClassVar[str] = "lists"
    first: str

    @classmethod
    def offered(cls, offer: Offer) -> bool:
        return bool(offer.partners)

    @classmethod
    def start(cls: type[Self], offer: Offer) -> Self:
        return cls(first=offer.partners[0]) if offer.partners else cls()  # type: ignore[call-arg]

    def shown(self, offer: Offer) -> Mapping[str, Setting]:
        """The other models that can be chosen here."""
        known = dict.fromkeys((*offer.partners, self.first), "")
        shown = dict(settings_of(type(self)))
        return {**shown, "first": replace(shown["first"], choices=known)}

    def alone(self) -> Step:
        """The other model without this one."""
        raise NotImplementedError

    def ranks(self, first: Scores, second: Scores, qrels: sp.csr_array) -> TargetRanks:
        raise NotImplementedError

    def ranks_along(
        self, setting: str, values: Sequence[float], first: Scores, second: Scores, qrels: sp.csr_array
    ) -> list[TargetRanks]:
        """`ranks` at several places of a curve."""
        along = [self.at(setting, value) for value in values]
        return [step.ranks(first, second, qrels) for step in along if isinstance(step, JoinsModels)]

    def lists(self, first: Scores, second: Scores) -> Lists:
        raise NotImplementedError

    def hubs(
        self, first: Scores, second: Scores, qrels: sp.csr_array, depth: int, pairs: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(lists (Q, depth), margins of the queries, scores of the random `pairs`); the last two empty where no one score
        orders everything."""
        raise NotImplementedError

    @property
    def unexplained(self) -> str:
        return (
            f"{self.label}: the order comes from two models, and the other one has no concepts here, so its similarities do "
            "not split; switch the hybrid off to see this model's part."
        )

    @property
    def block_refusal(self) -> str:
        return "it needs the lists of both models over all candidates at once"
