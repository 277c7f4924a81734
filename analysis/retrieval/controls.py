"""The controls that stand beside every removal: is it these concepts, or would any do, or just the mean?"""

from __future__ import annotations

from dataclasses import replace

from analysis.retrieval.interventions import Intervention
from analysis.retrieval.steps import Centring, PrincipalComponents, ReAlign, Removal

SEEDS = 10
_ALTERNATIVES = ("attribution", "energy", "bridge_max", "modality_text", "modality_image")


def random_control(removal: Removal, *, seeds: int = SEEDS) -> Intervention:
    """As many random live concepts and the same r, ten times; the spread of the seeds is the band in figures."""
    return Intervention((replace(removal, score="random", concepts=(), seed=0, seeds=seeds),))


def controls(removal: Removal, *, components: int = 2) -> tuple[Intervention, ...]:
    """What a removal is compared with: random concepts, the same number by other scores, leading principal components,
    mean-centring and ReAlign. A hand-picked removal has no share; its controls take the default one."""
    template = replace(removal, score="attribution", concepts=(), seed=0, seeds=1)
    others = (score for score in _ALTERNATIVES if score != removal.score)
    return (
        random_control(removal),
        *(Intervention((replace(template, score=score),)) for score in others),
        Intervention((PrincipalComponents(components),)),
        Intervention((PrincipalComponents(components, centred=True),)),
        Intervention((Centring("side"),)),
        Intervention((Centring("joint"),)),
        Intervention((ReAlign(),)),
    )
