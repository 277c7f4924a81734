"""Every kind of intervention once or at a few settings, by group: the rows that a table of effects holds, and that the
Retrieval lab offers to add. The removal that the others are compared with is an argument."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analysis.retrieval.evaluation.controls import random_control
from analysis.retrieval.interventions.intervention import Intervention
from analysis.retrieval.interventions.steps import (
    SCORES,
    UNRANKED,
    Centring,
    ConceptSpace,
    Edit,
    Fusion,
    Pool,
    PrincipalComponents,
    ReAlign,
    Removal,
    Rerank,
    Step,
)
from analysis.retrieval.task import RetrievalSpace

ALPHAS = (0.0, 0.03, 0.1, 0.3, 0.7, 1.0)
NS = (10, 50, 200)
WEIGHTS = (0.25, 0.5, 0.75)
PAPER = Removal()  # the top 1 % by attribution, all directions


def catalogue(
    space: RetrievalSpace, *, removal: Removal = PAPER, partner: str = ""
) -> dict[str, tuple[Intervention, ...]]:
    """Group -> interventions, in the order of the lab's chips.

    removal: gives share, r and base of the removals. partner: name of the other backbone for hybrids; without it there
    are none. Masks and poolings are those that both sides of the space have; concepts picked by hand and edited are the
    strongest by attribution and by energy, and missing where the space has no such score.
    """
    template = replace(removal, score="attribution", concepts=(), seed=0, seeds=1)
    loudest, strongest = (_largest(space, name) for name in ("attribution", "energy"))
    picked = [Removal("concepts", concepts=(concept,)) for concept in dict.fromkeys((*loudest, *strongest))]
    edits = [Edit(((concept, scale),)) for concept in loudest for scale in (0.0, 0.5, 2.0)]
    variants = [name for name in space.queries if name != "mean" and name in space.candidates]
    groups: dict[str, list[Intervention]] = {
        "Removal by every score": [_of(replace(template, score=score)) for score in SCORES if score not in UNRANKED]
        + [random_control(template)],
        "Concepts picked by hand": [_of(step) for step in picked],
        "Principal components": [
            *(_of(PrincipalComponents(n)) for n in (1, 2, 4, 8)),
            _of(PrincipalComponents(2, True)),
        ],
        "Mean-centring": [_of(Centring(means)) for means in ("side", "modality", "joint")],
        "ReAlign at several α and ε": [*(_of(ReAlign(alpha)) for alpha in ALPHAS), _of(ReAlign(eps=1e-3))],
        "ReAlign with other statistics": [
            _of(ReAlign(statistics=whose)) for whose in ("joint", "queries", "candidates", "support")
        ],
        "Masks and poolings, both sides": [_of(Pool(name, name)) for name in variants],
        "Masks and poolings, queries only": [_of(Pool(name, "mean")) for name in variants],
        "Masks and poolings, candidates only": [_of(Pool("mean", name)) for name in variants],
        "Concept edits": [_of(step) for step in edits],
        "Concept space": [_of(ConceptSpace("idf")), _of(ConceptSpace("equal"))],
        "Hybrid": [
            _of(Fusion(0.0, partner)),  # the other model alone, without which a hybrid's recall says little
            *(_of(Rerank(n, partner)) for n in NS),
            *(_of(Fusion(weight, partner)) for weight in WEIGHTS),
        ],
        "Combined": [
            _of(template, ReAlign()),
            _of(Centring("side"), template),
            _of(ConceptSpace("idf"), ReAlign()),
            *(_of(Pool(name, name), ReAlign()) for name in variants if name == "last"),
        ],
    }
    if not partner:
        del groups["Hybrid"]
    return {name: tuple(rows) for name, rows in groups.items() if rows}


def _of(*steps: Step) -> Intervention:
    return Intervention(steps)


def _largest(space: RetrievalSpace, name: str) -> list[int]:
    """The concept with the largest score, in a list; empty where none has one."""
    if name not in space.scores:
        return []
    score = np.asarray(space.score(name), np.float64)
    return [int(np.nanargmax(score))] if np.isfinite(score).any() else []
