"""Every kind of intervention once or at a few settings, by group: the rows that a table of effects holds, and that the
Retrieval lab offers to add. The removal that the others are compared with is an argument."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.retrieval.interventions import (
    KINDS,
    Centring,
    ConceptSpace,
    Intervention,
    Offer,
    Pool,
    ReAlign,
    Removal,
    Step,
)
from analysis.retrieval.task import RetrievalSpace

PAPER = Removal()  # the top 1 % by attribution, all directions


def catalogue(
    space: RetrievalSpace, *, removal: Step = PAPER, partner: str = ""
) -> dict[str, tuple[Intervention, ...]]:
    """Group -> interventions; every kind of step says its own (`Step.examples`).

    removal: gives share, r and base of the sets of concepts. partner: name of the other backbone for hybrids; without it
    there are none. Masks and poolings are those that both sides of the task have; concepts picked by hand and edited are
    the strongest by attribution and by energy, and missing where the task has no such score.
    """
    template = removal.template() or PAPER
    offer = offer_of(space, (partner,) if partner else ())
    groups: dict[str, list[Intervention]] = {}
    for kind in KINDS.values():
        if kind.offered(offer):
            for name, chains in kind.examples(offer, template).items():
                groups.setdefault(name, []).extend(Intervention(chain) for chain in chains)
    last = [name for name in offer.variants if name == "last"]
    groups["Combined"] = _each(
        (template, ReAlign()),
        (Centring("side"), template),
        (ConceptSpace("idf"), ReAlign()),
        *((Pool(name, name), ReAlign()) for name in last),
    )
    return {name: tuple(dict.fromkeys(rows)) for name, rows in groups.items() if rows}


def offer_of(space: RetrievalSpace, partners: Sequence[str] = ()) -> Offer:
    """What the steps of a catalogue can choose from on a task."""
    both = tuple(name for name in space.queries if name in space.candidates)
    return Offer(both, tuple(partners), space.score)


def _each(*chains: tuple[Step, ...]) -> list[Intervention]:
    return [Intervention(chain) for chain in chains]
