"""What stands beside an intervention: random and other controls of its removal, and each of its parts alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from analysis.retrieval.interventions.intervention import BASE, Intervention
from analysis.retrieval.interventions.steps import Centring, Fusion, PrincipalComponents, ReAlign, Removal, Step

SEEDS = 10
_ALTERNATIVES = ("attribution", "energy", "bridge_max", "modality_text", "modality_image")


def random_control(removal: Removal, *, within: Intervention = BASE, seeds: int = SEEDS) -> Intervention:
    """As many random live concepts and the same r, ten times; the spread of the seeds is the band in figures.

    within: an intervention that holds the removal; its other steps are the control's as well. Else the control is of the
    removal alone.
    """
    return _in_place(within, removal, replace(removal, score="random", concepts=(), seed=0, seeds=seeds))


def controls(removal: Removal, *, components: int = 2, within: Intervention = BASE) -> tuple[Intervention, ...]:
    """What a removal is compared with: random concepts, the same number by other scores, leading principal components,
    mean-centring and ReAlign. A hand-picked removal has no share; its controls take the default one.

    components: how many dimensions the removal takes, so that the components take as many. within: as in
    `random_control`; a control that is a step of that intervention already is left out.
    """
    template = replace(removal, score="attribution", concepts=(), seed=0, seeds=1)
    others: list[Step] = [replace(template, score=score) for score in _ALTERNATIVES if score != removal.score]
    others += [PrincipalComponents(components), PrincipalComponents(components, centred=True)]
    others += [Centring("side"), Centring("joint"), ReAlign()]
    kinds = {step.name for step in within.steps if step != removal}
    return (
        random_control(removal, within=within),
        *(_in_place(within, removal, step) for step in others if step.name not in kinds),
    )


def parts(intervention: Intervention) -> tuple[Intervention, ...]:
    """Each part of an intervention alone: the two models of a hybrid, and the single steps where there are several."""
    found = []
    first = first_stage_alone(intervention)
    if first is not None:
        found += [first, intervention.without_hybrid()]
    found += [Intervention((step,)) for step in intervention.steps]
    return tuple(part for part in dict.fromkeys(found) if part not in (BASE, intervention))


def first_stage_alone(intervention: Intervention) -> Intervention | None:
    """The other model of a hybrid without this one; None where there is no hybrid."""
    hybrid = intervention.hybrid
    return None if hybrid is None else Intervention((Fusion(0.0, hybrid.first),))


def reference(intervention: Intervention, recall: Callable[[Intervention], float]) -> Intervention:
    """What an intervention has to beat: the base, or of a hybrid the better of its two models by `recall`."""
    first = first_stage_alone(intervention)
    if first is None or first == intervention:
        return BASE
    return max((intervention.without_hybrid(), first), key=recall)


def with_first_stages(methods: Iterable[Intervention]) -> tuple[Intervention, ...]:
    """The methods, each once, and behind them the other model alone of every hybrid among them: a hybrid says little
    without it."""
    given = tuple(methods)
    alone = [first for method in given if (first := first_stage_alone(method)) is not None]
    return tuple(dict.fromkeys((*given, *alone)))


def _in_place(within: Intervention, removal: Removal, step: Step) -> Intervention:
    """The intervention with another step where its removal is; that step alone where it has no such removal."""
    if removal not in within.steps:
        return Intervention((step,))
    place = within.steps.index(removal)
    return Intervention((*within.steps[:place], step, *within.steps[place + 1 :]))
