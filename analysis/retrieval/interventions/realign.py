"""ReAlign: whitening of queries and candidates (ACL version of the paper)."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.errors import RetrievalError
from analysis.retrieval.interventions.centring import Centring
from analysis.retrieval.interventions.context import BlockContext, Context
from analysis.retrieval.interventions.settings import choice, number
from analysis.retrieval.interventions.step import Examples, MapsRows, Offer, Step
from analysis.retrieval.ranking.transforms import Transform
from analysis.retrieval.realign import Statistics

ALPHAS = (0.0, 0.03, 0.1, 0.3, 0.7, 1.0)  # of the catalogue


@dataclass(frozen=True)
class ReAlign(MapsRows):
    """Whitening. statistics: "own" (each side its own), "joint", "queries", "candidates", or "support" (queries with
    the statistics that the store keeps of a support set)."""

    name = "realign"
    title = "ReAlign"
    help = "Whiten queries and candidates, each with their own mean and covariance (ACL version of the paper)."

    alpha: float = number(
        0.1, low=0, high=1, label="Shrinkage α", what="alpha", written=True, width=200,
        values=(0.0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0), axis="shrinkage α",
        help="0 whitens with the covariance as measured, 1 only centres and scales. The authors use 0.1.",
    )  # fmt: skip
    eps: float = number(
        1e-5, low=0, high=1, label="ε", what="eps", width=170, values=(1e-7, 1e-6, 1e-5, 1e-4, 1e-3), axis="ε",
        help="Added to every eigenvalue; a second shrinkage. The authors use 1e-5.",
    )  # fmt: skip
    statistics: str = choice(
        "own",
        {
            "own": "each side its own",
            "support": "queries: the stored support set",
            "joint": "both sides together",
            "queries": "the queries'",
            "candidates": "the candidates'",
        },
        label="Mean and covariance of", what="statistics", width=240,
    )  # fmt: skip

    @property
    def label(self) -> str:
        whose = {"own": "", "joint": ", joint statistics", "support": ", support-set statistics"}.get(
            self.statistics, f", statistics of the {self.statistics}"
        )
        eps = "" if self.eps == 1e-5 else f", ε = {self.eps:g}"
        return f"ReAlign α = {self.alpha:g}{eps}{whose}"

    def simpler(self) -> tuple[Step, ...]:
        return (Centring("side"),)

    def fit(self, context: Context) -> tuple[Transform, Transform]:
        of_queries, of_candidates = context.both(self.statistics)
        return of_queries.whitening(self.alpha, self.eps), of_candidates.whitening(self.alpha, self.eps)

    def fit_moments(self, context: BlockContext) -> tuple[Transform, Transform]:
        joint = Statistics(context.mean, context.about(context.mean) / max(context.n - 1, 1), context.n)
        own = [Statistics(found.mean, found.covariance, found.n) for found in (context.queries, context.candidates)]
        few = context.queries.n < 2
        stored = context.space.support(context.variants[0]) if self.statistics == "support" or few else None
        if stored is not None:
            own[0] = stored
        chosen = {"joint": (joint, joint), "queries": (own[0], own[0]), "candidates": (own[1], own[1])}
        pair = chosen.get(self.statistics, (own[0], own[1]))
        if min(found.n for found in pair) < 2:
            raise RetrievalError("Whitening needs two or more samples a side; expected stored statistics of queries.")
        of_queries, of_candidates = (found.whitening(self.alpha, self.eps) for found in pair)
        return of_queries, of_candidates

    def curve_settings(self) -> tuple[str, ...]:
        return ("alpha", "eps")

    @property
    def uses_queries(self) -> bool:
        return self.statistics != "candidates"

    @property
    def centres_queries(self) -> bool:
        return True

    @property
    def prefers_stored(self) -> bool:
        return self.statistics == "support"

    @classmethod
    def examples(cls, offer: Offer, template: Step) -> Examples:
        whose = ("joint", "queries", "candidates", "support")
        return {
            "ReAlign at several α and ε": [*((cls(alpha),) for alpha in ALPHAS), (cls(eps=1e-3),)],
            "ReAlign with other statistics": [(cls(statistics=name),) for name in whose],
        }
