"""The single steps of an intervention, as data. `pipeline` says what each does to arrays, `concept_sets` which concepts
a removal means, `interventions` how steps combine and what they are called in a URL or a command."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar, TypeAlias

from analysis.concepts.scores import removal_ends
from analysis.errors import RetrievalError

UNRANKED = ("concepts", "random")  # chosen by hand or by lot: no score orders them
SCORES = (*removal_ends(), *UNRANKED)
SCORE_LABELS = {name: end.label for name, (_, end) in removal_ends().items()}
VARIANT_LABELS = {
    "mean": "mean pooling",
    "last": "last token",
    "mean_no_image": "w/o image",
    "mean_no_prompt": "w/o prompt",
    "mean_no_instruction": "w/o instruction",
}


@dataclass(frozen=True)
class Pool:
    """Which stored embedding each side uses: a pooling or a mask (design.md, masking and pooling)."""

    name: ClassVar[str] = "pool"
    queries: str = "mean"
    candidates: str = "mean"

    @property
    def label(self) -> str:
        q, c = (VARIANT_LABELS.get(variant, variant) for variant in (self.queries, self.candidates))
        if q == c:
            return q
        return " and ".join(
            f"{label} ({side})"
            for side, label, variant in (("queries", q, self.queries), ("candidates", c, self.candidates))
            if variant != "mean"
        )


@dataclass(frozen=True)
class Edit:
    """Scale some concepts' part of every embedding: h + sum_i (scale_i - 1) z_i D_i."""

    name: ClassVar[str] = "edit"
    scales: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        if not self.scales or len({concept for concept, _ in self.scales}) != len(self.scales):
            raise RetrievalError(f"Concepts to scale are {self.scales}; expected one or more, each once.")
        for concept, scale in self.scales:
            _number(f"scale of concept {concept}", scale)
            _whole("concept", concept)

    @property
    def label(self) -> str:
        return "concepts scaled: " + ", ".join(f"{concept} × {scale:g}" for concept, scale in self.scales)


@dataclass(frozen=True)
class ConceptSpace:
    """Compare codes instead of embeddings: cosine through D D^T, concepts weighted by log(N/df) or not at all."""

    name: ClassVar[str] = "codes"
    weights: str = "idf"  # "idf" | "equal"

    def __post_init__(self) -> None:
        one_of("concept weights", self.weights, ("idf", "equal"))

    @property
    def label(self) -> str:
        return "concept space" + (", rare concepts weighted" if self.weights == "idf" else "")


@dataclass(frozen=True)
class Removal:
    """Project away the space of the top `share` of concepts by `score` (paper eq. 8-10).

    base: the share is of "all" concepts or of the "live" ones. r: leading dimensions of that space (None: all).
    score "concepts" means the ids in `concepts`; "random" draws as many live concepts, `seeds` times from `seed` on.
    """

    name: ClassVar[str] = "removal"
    score: str = "attribution"
    concepts: tuple[int, ...] = ()
    share: float = 0.01
    r: int | None = None
    base: str = "all"
    seed: int = 0
    seeds: int = 1

    def __post_init__(self) -> None:
        one_of("score", self.score, (*removal_ends(), *UNRANKED))
        one_of("percentage base", self.base, ("all", "live"))
        _number("share of concepts", self.share, 0, 1)
        _whole("seed", self.seed)
        _whole("number of seeds", self.seeds, 1)
        if self.r is not None:
            _whole("r", self.r)
        if (self.score == "concepts") != bool(self.concepts):
            raise RetrievalError(
                f"Removal by {self.score!r} names {len(self.concepts)} concepts; expected ids with the score "
                "'concepts' and none with another, e.g. removal:concepts=12,99."
            )

    @property
    def label(self) -> str:
        space = "" if self.r is None else f", r = {self.r}"
        if self.score == "concepts":
            shown = ", ".join(map(str, self.concepts[:3])) + (" ..." if len(self.concepts) > 3 else "")
            return f"removal of concept{'s' * (len(self.concepts) > 1)} {shown}{space}"
        live = " of live" if self.base == "live" else ""
        amount = f"{100 * self.share:g} %{live}{space}"
        if self.score == "random":
            which = f"{self.seeds} seeds" if self.seeds > 1 else f"seed {self.seed}"
            return f"random concepts, {amount} ({which})"
        return f"removal by {removal_ends()[self.score][1].label}, top {amount}"


@dataclass(frozen=True)
class PrincipalComponents:
    """Project away the n leading principal components of queries and candidates together, centred or not."""

    name: ClassVar[str] = "pca"
    n: int = 2
    centred: bool = False

    def __post_init__(self) -> None:
        _whole("number of components", self.n, 1)

    @property
    def label(self) -> str:
        return f"{self.n} {'centred' if self.centred else 'uncentred'} principal component{'s' * (self.n > 1)} out"


_MEANS = {"side": "per side", "modality": "per modality", "joint": "jointly"}


@dataclass(frozen=True)
class Centring:
    """Subtract the mean: of queries and of candidates ("side"), of each "modality" over both sides, or the "joint" one.
    Side and modality are the same where queries are of one modality and candidates of another."""

    name: ClassVar[str] = "centring"
    means: str = "side"

    def __post_init__(self) -> None:
        one_of("means", self.means, tuple(_MEANS))

    @property
    def label(self) -> str:
        return f"mean-centred {_MEANS[self.means]}"


@dataclass(frozen=True)
class ReAlign:
    """Whitening. statistics: "own" (each side its own), "joint", "queries", "candidates", or "support" (queries with
    the statistics that the store keeps of a support set)."""

    name: ClassVar[str] = "realign"
    alpha: float = 0.1
    eps: float = 1e-5
    statistics: str = "own"

    def __post_init__(self) -> None:
        _number("alpha", self.alpha, 0, 1)
        _number("eps", self.eps, 0)
        one_of("statistics", self.statistics, ("own", "joint", "queries", "candidates", "support"))

    @property
    def label(self) -> str:
        whose = {"own": "", "joint": ", joint statistics", "support": ", support-set statistics"}.get(
            self.statistics, f", statistics of the {self.statistics}"
        )
        eps = "" if self.eps == 1e-5 else f", ε = {self.eps:g}"
        return f"ReAlign α = {self.alpha:g}{eps}{whose}"


@dataclass(frozen=True)
class Rerank:
    """Hybrid in two stages: another backbone's store takes the top n, this one orders them."""

    name: ClassVar[str] = "rerank"
    n: int = 50
    first: str = ""

    def __post_init__(self) -> None:
        _whole("n of the first stage", self.n, 1)

    @property
    def label(self) -> str:
        return f"re-ranks the top {self.n}{f' of {self.first}' if self.first else ''}"


@dataclass(frozen=True)
class Fusion:
    """Weighted sum of z-scored similarities: weight * this store + (1 - weight) * the other. Weight 0 is the other alone."""

    name: ClassVar[str] = "fusion"
    weight: float = 0.5
    first: str = ""

    def __post_init__(self) -> None:
        _number("weight", self.weight, 0, 1)

    @property
    def label(self) -> str:
        if self.weight == 0:
            return f"{self.first or 'the other model'} alone"
        return f"fused{f' with {self.first}' if self.first else ''}, weight {self.weight:g}"


Step: TypeAlias = Pool | Edit | ConceptSpace | Removal | PrincipalComponents | Centring | ReAlign | Rerank | Fusion
STEPS: dict[str, type] = {
    kind.name: kind
    for kind in (Pool, Edit, ConceptSpace, Removal, PrincipalComponents, Centring, ReAlign, Rerank, Fusion)
}


def one_of(what: str, value: str, choices: Sequence[str]) -> None:
    """RetrievalError unless the value is one of the choices, with the closest one as a suggestion."""
    if value not in choices:
        close = get_close_matches(str(value), choices, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(choices)}."
        raise RetrievalError(f"The {what} {value!r} is unknown; {hint}")


def _whole(what: str, value: Any, least: int = 0) -> None:
    if isinstance(value, bool) or int(value) != value or value < least:
        raise RetrievalError(f"The {what} is {value}; expected a whole number from {least} on.")


def _number(what: str, value: float, least: float = -math.inf, most: float = math.inf) -> None:
    if not (math.isfinite(value) and least <= value <= most):
        raise RetrievalError(f"The {what} is {value}; expected a number from {least:g} to {most:g}.")
