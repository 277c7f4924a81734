"""What stands beside an intervention: random and other controls of its set of concepts, and each of its parts alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from analysis.retrieval.interventions import (
    BASE,
    Centring,
    Intervention,
    PrincipalComponents,
    ReAlign,
    Removal,
    Step,
    UntrainedRemoval,
)

SEEDS, FEW_SEEDS = 10, 3
LARGE = 20_000_000  # query-candidate pairs from which on every seed takes a second


def seeds_for(pairs: int) -> int:
    """How many random sets a control has on a task of so many query-candidate pairs, where somebody waits for it."""
    return SEEDS if pairs <= LARGE else FEW_SEEDS


def random_control(step: Step, *, n_concepts: int, within: Intervention = BASE, seeds: int = SEEDS) -> Intervention:
    """As many random live concepts, ten times; the spread of the seeds is the band in figures.

    n_concepts: of the dictionary, of which a hand-picked set is some share. within: an intervention that holds the step; its
    other steps are the control's as well. Else the control is of the step alone. A step without concepts to choose is its
    own control.
    """
    return _in_place(within, step, step.sized(n_concepts).control(seeds) or step)


def untrained_control(step: Step, *, n_concepts: int, within: Intervention = BASE) -> Intervention:
    """As many concepts of the SAE that training started from, projected away. n_concepts, within: as in `random_control`."""
    return _in_place(within, step, UntrainedRemoval.like(step.sized(n_concepts)))


def controls(
    step: Step, *, n_concepts: int, components: int = 2, within: Intervention = BASE
) -> tuple[Intervention, ...]:
    """What a step that chooses concepts is compared with: random concepts, as many of an untrained SAE, the same number
    by other scores, leading principal components, mean-centring and ReAlign.

    components: how many dimensions the step takes, so that the components take as many. n_concepts, within: as in
    `random_control`; a control that is a step of that intervention already is left out.
    """
    others: list[Step] = [*step.sized(n_concepts).alternatives()]
    others += [PrincipalComponents(components), PrincipalComponents(components, centred=True)]
    others += [Centring("side"), Centring("joint"), ReAlign()]
    kinds = {other.name for other in within.steps if other != step}
    return (
        random_control(step, n_concepts=n_concepts, within=within),
        untrained_control(step, n_concepts=n_concepts, within=within),
        *(_in_place(within, step, other) for other in others if other.name not in kinds),
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
    return None if hybrid is None else Intervention((hybrid.alone(),))


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


def default_removal(intervention: Intervention) -> Step:
    """The step that controls are of: the intervention's first that chooses concepts, else the paper's removal."""
    return intervention.controlled or Removal()


def _in_place(within: Intervention, step: Step, other: Step) -> Intervention:
    """The intervention with another step in the place of one; that other step alone where it has no such step."""
    return within.replaced(step, other) if step in within.steps else Intervention((other,))
