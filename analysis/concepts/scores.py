"""The table of concept scores: one row is one score. Its column in a store, in the browser's table, sort, filter, histogram,
map and CSV, its line on the Concept page and its removal set all follow from the row: a new score is one function and one
row here. Stores that were made before get the column by `python -m analysis rescore STORE`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd

from analysis.concepts import coherence
from analysis.concepts.bridges import Bridge, bridges
from analysis.concepts.coherence import Centred
from analysis.concepts.dissect import Dissection, dissect
from analysis.concepts.evidence import Evidence
from analysis.concepts.held_out import HeldOut, hold_out
from analysis.concepts.metrics import Attribution, attribution_score, energy, frequency, modality_score
from analysis.errors import DataError
from analysis.sae.codes import Codes

BRIDGES_KEPT = 2000
CONTROL_REMOVALS = ("attribution", "energy")  # by which concepts of an untrained SAE are removed


@dataclass(frozen=True)
class PairRows:
    """Positions of the samples that the concept scores are computed on.

    images (I,), texts (T,), both (B,): each image, text and image + text sample once; `both` counts in the energy over all
    samples, in neither modality. pair_image, pair_text (P,): the pairs over which bridges and attribution are averaged,
    one entry a pair. source: where the pairs come from.
    """

    images: np.ndarray
    texts: np.ndarray
    both: np.ndarray
    pair_image: np.ndarray
    pair_text: np.ndarray
    source: str


@dataclass(frozen=True)
class Second:
    """Embeddings by another backbone: vectors (M, D'), and the row (N,) in which each sample lies, -1 for none; contrastive:
    pictures and captions lie in one space, so that it can say which word fits a picture."""

    vectors: np.ndarray
    position: np.ndarray
    backbone: str
    contrastive: bool = False


@dataclass(frozen=True)
class ScoreInputs:
    """What a score may be computed from. What several scores share (energies of each modality, bridges, attribution) is
    computed when the first of them asks for it, and once.

    codes: of all N samples of a store, row = position in its sample table; dictionary (K, D): unit rows; rows: which
    samples and pairs count; weighting: "samples" (the paper: the mean over all samples) or "balanced" (the mean of the
    means of the modalities that occur). Optional, a score that needs what is not there is NaN: evidence: the words that
    names are tested on; vectors (N, D): the embeddings that were encoded; second: the same samples in another
    backbone; effects: what removing each concept alone does, see
    `retrieval.evaluation.single_effects`.
    """

    codes: Codes
    dictionary: np.ndarray
    rows: PairRows
    weighting: str = "samples"
    evidence: Evidence | None = None
    vectors: np.ndarray | None = None
    second: Second | None = None
    effects: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        if self.weighting not in ("samples", "balanced"):
            raise DataError(f"weighting is {self.weighting!r}; expected 'samples' or 'balanced'.")

    @property
    def n_concepts(self) -> int:
        return self.codes.n_concepts

    @cached_property
    def parts(self) -> dict[str, Codes]:
        """ "image", "text", "both" -> codes of those samples."""
        found = {"image": self.rows.images, "text": self.rows.texts, "both": self.rows.both}
        return {name: self.codes[rows] for name, rows in found.items()}

    @cached_property
    def energies(self) -> dict[str, np.ndarray]:
        return {name: energy(part) for name, part in self.parts.items()}

    @cached_property
    def frequencies(self) -> dict[str, np.ndarray]:
        return {name: frequency(part) for name, part in self.parts.items()}

    @property
    def counts(self) -> dict[str, int]:
        return {name: len(part) for name, part in self.parts.items()}

    @cached_property
    def pairs(self) -> tuple[Codes, Codes]:
        """Codes of the images and of the texts of the pairs, row by row."""
        return self.codes[self.rows.pair_image], self.codes[self.rows.pair_text]

    @cached_property
    def bridges(self) -> tuple[dict[str, Bridge], pd.DataFrame]:
        """(reduction -> one number a concept and its partner, the strongest pairs beside their permutation null), from one
        pass over the bridge matrix. Without pairs the numbers are zeros and the table is empty."""
        return bridges(*self.pairs, self.dictionary, n=BRIDGES_KEPT, groups=self.rows.pair_image)

    @property
    def has_pairs(self) -> bool:
        return len(self.rows.pair_image) > 0

    @cached_property
    def attribution(self) -> Attribution:
        return attribution_score(*self.pairs, self.dictionary)

    @cached_property
    def held_out(self) -> HeldOut | None:
        """The names and how far they hold on samples that did not choose them; None without words."""
        return None if self.evidence is None else hold_out(self.codes, self.evidence, _modality(self))

    @cached_property
    def dissection(self) -> Dissection | None:
        """What a second, contrastive model says of every word; None without one, or without words."""
        if self.second is None or not self.second.contrastive or self.evidence is None:
            return None
        groups = [self.rows.images, self.rows.texts]
        return dissect(
            self.codes, self.evidence, Centred(self.second.vectors, groups, self.second.position), _modality(self)
        )

    @property
    def modalities(self) -> list[np.ndarray]:
        """Rows of the pictures and of the captions, as far as there are any."""
        return [rows for rows in (self.rows.images, self.rows.texts) if len(rows)]

    @cached_property
    def centred(self) -> Centred | None:
        return None if self.vectors is None else Centred(self.vectors, self.modalities)

    @cached_property
    def clarity(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(clarity, polysemanticity)."""
        return None if self.centred is None else coherence.clarity(self.codes, self.centred)

    def missing(self) -> np.ndarray:
        """(K,) NaN: a score that these data do not define."""
        return np.full(self.n_concepts, np.nan)


@dataclass(frozen=True)
class End:
    """The end of a score at which `removal:NAME` begins: the concepts with the largest values (high) or the smallest."""

    name: str
    label: str
    high: bool = True


@dataclass(frozen=True)
class Score:
    """One score of every concept.

    compute: ScoreInputs -> (K,) numbers, NaN where a concept has none. label: what people read and links say. sentence:
    what the number means. equation: of the paper. unit: what stands in brackets on an axis; title: what stands before
    them where that is not the label. range: the values it can take,
    None where it is open. format: printf format, or "percent" for a share. notable: which end is worth a look, "high",
    "low" or "both". ends: the removal sets, which follow from `notable` unless they are named here; () for none. places:
    where it has a column or line of its own without being asked for. version: raise it when `compute` gives other
    numbers than before, and stores say that they want to be rescored. control: the same number of the untrained SAE
    belongs beside it, and is kept in `untrained.parquet`.
    """

    name: str
    label: str
    sentence: str
    compute: Callable[[ScoreInputs], np.ndarray]
    equation: str = ""
    unit: str = ""
    title: str = ""
    range: tuple[float | None, float | None] = (None, None)
    format: str = "%.3g"
    notable: str = "high"
    ends: tuple[End, ...] | None = None
    places: tuple[str, ...] = ("table", "concept")
    version: int = 1
    control: bool = False

    @property
    def help(self) -> str:
        return f"{self.sentence} ({self.equation})" if self.equation else self.sentence

    @property
    def axis(self) -> str:
        """Title of an axis or a legend: label, unit and equation."""
        brackets = ", ".join(filter(None, (self.unit, self.equation)))
        return f"{self.title or self.label} ({brackets})" if brackets else self.title or self.label

    @property
    def removals(self) -> tuple[End, ...]:
        """The ends from which a removal can take its concepts."""
        if self.ends is not None:
            return self.ends
        if self.notable == "both":
            return (
                End(f"{self.name}_high", f"{self.label}, high end"),
                End(f"{self.name}_low", f"{self.label}, low end", False),
            )
        return (End(self.name, self.label, self.notable == "high"),)

    def text(self, value: float) -> str:
        """A value as people read it; a dash where there is none."""
        if value != value:
            return "–"
        if self.format == "percent":
            return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"
        return self.format % value


def _energy(inputs: ScoreInputs) -> np.ndarray:
    present = {name: 1 for name, count in inputs.counts.items() if count}
    return _mean(inputs.energies, present if inputs.weighting == "balanced" else inputs.counts)


def _modality(inputs: ScoreInputs) -> np.ndarray:
    if not inputs.counts["image"] or not inputs.counts["text"]:
        return inputs.missing()
    return modality_score(inputs.energies["image"], inputs.energies["text"])


def _attribution(part: str) -> Callable[[ScoreInputs], np.ndarray]:
    def of(inputs: ScoreInputs) -> np.ndarray:
        return np.asarray(getattr(inputs.attribution, part)) if inputs.has_pairs else inputs.missing()

    return of


def _bridge(reduction: str) -> Callable[[ScoreInputs], np.ndarray]:
    def of(inputs: ScoreInputs) -> np.ndarray:
        return inputs.bridges[0][reduction].score if inputs.has_pairs else inputs.missing()

    return of


def _held_out(part: str) -> Callable[[ScoreInputs], np.ndarray]:
    def of(inputs: ScoreInputs) -> np.ndarray:
        return inputs.missing() if inputs.held_out is None else np.asarray(getattr(inputs.held_out, part))

    return of


def _clarity(part: int) -> Callable[[ScoreInputs], np.ndarray]:
    def of(inputs: ScoreInputs) -> np.ndarray:
        return inputs.missing() if inputs.clarity is None else inputs.clarity[part]

    return of


def _monosemanticity(inputs: ScoreInputs) -> np.ndarray:
    return inputs.missing() if inputs.centred is None else coherence.monosemanticity(inputs.codes, inputs.centred)


def _second_opinion(inputs: ScoreInputs) -> np.ndarray:
    if inputs.second is None:
        return inputs.missing()
    found = Centred(inputs.second.vectors, inputs.modalities, inputs.second.position)
    return coherence.monosemanticity(inputs.codes, found)


def _word_second(inputs: ScoreInputs) -> np.ndarray:
    if inputs.dissection is None or inputs.held_out is None:
        return inputs.missing()
    return inputs.dissection.standing(inputs.held_out.word)


def _paired_rate(inputs: ScoreInputs) -> np.ndarray:
    """Over pairs: fires on both sides / fires on either."""
    if not inputs.has_pairs:
        return inputs.missing()
    image, text = (side.to_csr().astype(bool).astype(np.int64) for side in inputs.pairs)
    both = np.asarray(image.multiply(text).sum(axis=0)).ravel()
    either = np.asarray(image.sum(axis=0) + text.sum(axis=0)).ravel() - both
    return np.where(either > 0, both / np.maximum(either, 1), np.nan)


def _effect(task: str) -> Callable[[ScoreInputs], np.ndarray]:
    def of(inputs: ScoreInputs) -> np.ndarray:
        if inputs.effects is None:
            return inputs.missing()
        rows = inputs.effects[(inputs.effects["k"] == 0) & ((inputs.effects["task"] == task) | (task == ""))]
        mean = rows.groupby("concept")["difference"].mean()
        return 100 * mean.reindex(range(inputs.n_concepts)).to_numpy(float)

    return of


def _mean(parts: dict[str, np.ndarray], weights: dict[str, int]) -> np.ndarray:
    total = np.zeros(len(next(iter(parts.values()))))
    for name, weight in weights.items():
        total += parts[name] * weight
    return total / max(sum(weights.values()), 1)


SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score(
            "energy", "energy", "Mean activation over all samples: how loud the concept is.",
            _energy, "Eq. 3", "mean activation", range=(0, None),
        ),
        Score(
            "modality_score", "modality",
            "Share of the activation that comes from text: 0 fires on images only, 1 on text only.",
            _modality, unit="0 = image, 1 = text", title="modality score", range=(0, 1), format="%.2f", notable="both",
            equation="Eq. 4", ends=(End("modality_text", "text extreme"), End("modality_image", "image extreme", high=False)),
        ),
        Score(
            "word_f1", "name F1",
            "How well the concept's name predicts where it fires, on samples that did not choose the name (both halves in "
            "turn): F1 of firing at half its maximum or more.",
            _held_out("f1"), title="held-out F1 of the name", range=(0, 1), format="%.2f", ends=(), control=True,
        ),
        Score(
            "effect", "effect",
            "Change of recall when this concept alone is removed (mean of R@1, R@5 and R@10 over all tasks of the store, in "
            "points): above 0 the concept hurts retrieval, below 0 it helps.",
            _effect(""), unit="points, without the concept", title="effect on recall", format="%+.2f", notable="both",
            ends=(),
        ),
        Score(
            "word_auroc", "name AUROC",
            "How well the activation tells samples with the name's word from those without it, on samples that did not "
            "choose the name; 0.5 is chance.",
            _held_out("auroc"), title="held-out AUROC of the name", range=(0, 1), format="%.2f", ends=(), places=("concept",),
            control=True,
        ),
        Score(
            "word_purity", "word purity",
            "Share of the activation that lies on samples with one word, less chance, on samples that did not choose the "
            "word: what fires strongly shares something.",
            _held_out("purity"), title="strength-weighted word purity", range=(None, 1), format="%.2f", ends=(),
            places=("concept",), control=True,
        ),
        Score(
            "word_second", "name, second model",
            "Of all words, the share that a second, contrastive model finds to fit less than the concept's own (soft-WPMI of "
            "CLIP-Dissect): 100 % it would say the same word, 50 % a word that was drawn.",
            _word_second, title="standing of the name in a second model", range=(0, 1), format="percent", ends=(),
            places=("concept",), control=True,
        ),
        Score(
            "clarity", "clarity",
            "Mean cosine of two of its 20 strongest samples, embeddings centred in their modality: 0 as at random, 1 all "
            "alike (SemanticLens).",
            _clarity(0), range=(-1, 1), format="%.2f", ends=(), places=("concept",), control=True,
        ),
        Score(
            "polysemanticity", "polysemanticity",
            "How far apart the two clusters of its 20 strongest samples lie: 0 one meaning, 1 unrelated, 2 opposite "
            "(SemanticLens).",
            _clarity(1), range=(0, 2), format="%.2f", notable="low", ends=(), places=("concept",), control=True,
        ),
        Score(
            "monosemanticity", "monosemanticity",
            "Mean cosine of two samples on which it fires, weighted by both activations, in the embeddings it was trained "
            "on, centred in their modality (Pach et al. 2025).",
            _monosemanticity, range=(-1, 1), format="%.2f", ends=(), places=("concept",), control=True,
        ),
        Score(
            "monosemanticity_second", "monosemanticity, second encoder",
            "The same in the embeddings of another backbone on the same samples, which did not make the concept.",
            _second_opinion, range=(-1, 1), format="%.2f", ends=(), places=("concept",), control=True,
        ),
        Score(
            "paired_rate", "paired rate",
            "Of the pairs on whose picture or caption it fires, the share on which it fires on both.",
            _paired_rate, range=(0, 1), format="percent", ends=(), places=("concept",), control=True,
        ),
        Score(
            "effect_i2t", "effect on i2t", "The same on the task i2t alone.",
            _effect("i2t"), unit="points, without the concept", title="effect on i2t recall", format="%+.2f",
            notable="both", ends=(), places=("concept",),
        ),
        Score(
            "effect_t2i", "effect on t2i", "The same on the task t2i alone.",
            _effect("t2i"), unit="points, without the concept", title="effect on t2i recall", format="%+.2f",
            notable="both", ends=(), places=("concept",),
        ),
        Score(
            "attribution", "attribution",
            "What the concept contributes to the similarity of matching pairs; the sum over concepts is twice the mean "
            "similarity of the reconstructions.",
            _attribution("total"), "Eq. 6", "squared length of embeddings",
        ),
        Score(
            "bridge_max", "bridge max",
            "Strongest link of the concept to one concept of the other modality: how often both fire on a pair, times the "
            "cosine of their directions; larger of row and column maximum.",
            _bridge("max"), "Eq. 5", title="bridge score, max", range=(0, None),
        ),
        Score(
            "bridge_diagonal", "bridge diagonal",
            "The concept's link to itself: it fires on the image and on the caption of one pair.",
            _bridge("diagonal"), "Eq. 5", title="bridge score, diagonal", range=(0, None), places=("concept",),
        ),
        Score(
            "bridge_off_diagonal", "bridge off-diagonal",
            "All links of the concept to other concepts: attribution less twice the diagonal.",
            _bridge("off_diagonal"), "Eq. 5", title="bridge score, off-diagonal", places=("concept",),
        ),
        Score(
            "bridge_abs_sum", "bridge abs. sum",
            "Mean of the absolute row and column sums of the bridge matrix, as IsoEnergy counts it.",
            _bridge("abs_sum"), "Eq. 5", title="bridge score, absolute sum", range=(0, None), places=("concept",),
        ),
        Score(
            "frequency", "frequency", "Share of all samples on which the concept is active at all.",
            lambda inputs: _mean(inputs.frequencies, inputs.counts),
            title="share of samples on which it fires", range=(0, 1), format="percent", ends=(), places=("concept",),
        ),
        Score(
            "frequency_image", "fires on images", "Share of the images on which the concept is active.",
            lambda inputs: inputs.frequencies["image"],
            title="share of images on which it fires", range=(0, 1), format="percent", ends=(),
        ),
        Score(
            "frequency_text", "fires on captions", "Share of the captions on which the concept is active.",
            lambda inputs: inputs.frequencies["text"],
            title="share of captions on which it fires", range=(0, 1), format="percent", ends=(),
        ),
        Score(
            "energy_image", "energy on images", "Mean activation over the images.",
            lambda inputs: inputs.energies["image"], "Eq. 3", range=(0, None), ends=(), places=(),
        ),
        Score(
            "energy_text", "energy on captions", "Mean activation over the captions.",
            lambda inputs: inputs.energies["text"], "Eq. 3", range=(0, None), ends=(), places=(),
        ),
        Score(
            "attribution_image", "attribution, image half",
            "The part of the attribution in which the concept fires on the image.",
            _attribution("image"), "Eq. 6", ends=(), places=(),
        ),
        Score(
            "attribution_text", "attribution, text half",
            "The part of the attribution in which the concept fires on the caption.",
            _attribution("text"), "Eq. 6", ends=(), places=(),
        ),
    )
}  # fmt: skip


def score_names() -> tuple[str, ...]:
    """The stored columns, in the order in which people see them."""
    return tuple(SCORES)


def by_label() -> dict[str, Score]:
    """Label -> score: labels stand in pickers and links."""
    return {score.label: score for score in SCORES.values()}


def at(place: str) -> tuple[Score, ...]:
    """The scores that have a column in the browser's "table" or a line on the "concept" page."""
    return tuple(score for score in SCORES.values() if place in score.places)


def controlled() -> tuple[Score, ...]:
    """The scores beside which that of the untrained SAE belongs."""
    return tuple(score for score in SCORES.values() if score.control)


def of_untrained() -> tuple[str, ...]:
    """Names of the scores that are kept of the untrained SAE: the controlled ones, and those by which concepts are removed
    from it as a control."""
    return (*(score.name for score in controlled()), *CONTROL_REMOVALS)


def removal_ends() -> dict[str, tuple[Score, End]]:
    """NAME of `removal:NAME` -> the score that ranks the concepts and the end at which the removal begins.

    In the order in which they are offered: attribution, the paper's choice, first, scores with two ends last.
    """
    return _ends_of(tuple(map(id, SCORES.values())))


@lru_cache(maxsize=4)
def _ends_of(_: tuple[int, ...]) -> dict[str, tuple[Score, End]]:
    """Every step asks whenever it is made; rows are added to the table, if at all, before the first is."""
    ordered = sorted(SCORES.values(), key=lambda score: (len(score.removals) > 1, score.name != "attribution"))
    return {end.name: (score, end) for score in ordered for end in score.removals}


def removal_values(name: str, column: Callable[[str], np.ndarray]) -> np.ndarray:
    """(K,) float64, larger = removed earlier, NaN = never: the score behind `removal:NAME` turned so that its notable end
    is up. column: name of a stored score -> (K,). KeyError for a name that `removal_ends` lacks."""
    score, end = removal_ends()[name]
    values = np.asarray(column(score.name), np.float64)
    return values if end.high else -values


def compute(inputs: ScoreInputs, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """name -> (K,) float64 of the scores asked for (all of them when None).

    Raises DataError with the name of a score whose function gives another shape or infinite numbers.
    """
    found = {}
    for name in score_names() if names is None else names:
        values = np.asarray(SCORES[name].compute(inputs), np.float64)
        if values.shape != (inputs.n_concepts,):
            raise DataError(
                f"The score {name!r} gave an array of shape {values.shape} for {inputs.n_concepts} concepts; its function "
                "must return one number a concept."
            )
        if np.isinf(values).any():
            raise DataError(
                f"The score {name!r} of concept {int(np.isinf(values).argmax())} is infinite; its function must return NaN "
                "where a concept has no score."
            )
        found[name] = values
    return found
