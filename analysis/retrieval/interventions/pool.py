"""Pool: which stored pooling or mask each side uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.retrieval.interventions.settings import Setting, choice, settings_of
from analysis.retrieval.interventions.step import ChoosesEmbeddings, Examples, Offer, Step

VARIANT_LABELS = {
    "mean": "mean pooling",
    "last": "last token",
    "mean_no_image": "w/o image",
    "mean_no_prompt": "w/o prompt",
    "mean_no_instruction": "w/o instruction",
}


@dataclass(frozen=True)
class Pool(ChoosesEmbeddings):
    """Which stored embedding each side uses: a pooling or a mask (paper Fig. 4, Table 3). Which ones there are is the
    store's business, so the check is made where the embeddings are read."""

    name = "pool"
    title = "Masks and pooling"
    help = "Use the embeddings that leave out image, prompt or instruction tokens, or the last token (Fig. 4, Table 3)."

    queries: str = choice("mean", {}, label="Queries", width=190)
    candidates: str = choice("mean", {}, label="Candidates", width=190)

    def variant(self, side: str) -> str:
        return self.queries if side == "queries" else self.candidates

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

    def written(self) -> list[str]:
        return [self.queries] if self.queries == self.candidates else super().written()

    @classmethod
    def read(cls, words: Sequence[str]) -> Pool:
        if len(words) == 1 and "=" not in words[0]:
            return cls(words[0], words[0])
        return super().read(words)

    @classmethod
    def offered(cls, offer: Offer) -> bool:
        return len(offer.variants) > 1

    @classmethod
    def start(cls, offer: Offer) -> Pool:
        masked = [variant for variant in offer.variants if variant != "mean"]
        return cls(**{offer.sides[0]: masked[0]}) if masked else cls()

    def shown(self, offer: Offer) -> dict[str, Setting]:
        words = {variant: VARIANT_LABELS.get(variant, variant) for variant in offer.variants}
        return {side: replace(settings_of(Pool)[side], choices=words) for side in offer.sides}

    @classmethod
    def examples(cls, offer: Offer, template: Step) -> Examples:
        variants = [name for name in offer.variants if name != "mean"]
        return {
            "Masks and poolings, both sides": [(cls(name, name),) for name in variants],
            "Masks and poolings, queries only": [(cls(name, "mean"),) for name in variants],
            "Masks and poolings, candidates only": [(cls("mean", name),) for name in variants],
        }
