"""Which retrieval tasks a build takes from its data, and what they are called in the store."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from analysis.build.plan import DataPlan, slug
from analysis.data import mbeir_layout
from analysis.data.registry import TaskPlace, find_retrieval_tasks, load_retrieval
from analysis.data.retrieval import pairs_as_retrieval
from analysis.data.samples import PairSet, RetrievalSet
from analysis.data.tasks import task_name
from analysis.errors import DataError

PAIR_TASKS = ("i2t", "t2i")


def choose_tasks(plan: DataPlan, pairs: PairSet | None, *, cache: Path) -> tuple[dict[str, RetrievalSet], list[str]]:
    """(name in the store -> task, sentences about what was left out or chosen otherwise).

    A task is called by its code ("it2i"). Where several folders hold one code each is called code-folder
    ("it2i-mbeir_cirr_task7"). i2t and t2i come from the pairs where there are any; a folder with the same code is then
    taken only when it is asked for by its name. `plan.tasks` holds codes, folder names or names in the store. Raises
    DataError for a task that is not there.
    """
    asked = set(plan.tasks or ())
    found: dict[str, RetrievalSet] = {}
    notes: list[str] = []
    if pairs is not None:
        for code in PAIR_TASKS:
            if plan.tasks is None or code in asked:
                found[code] = pairs_as_retrieval(pairs, code)
    places = find_retrieval_tasks(plan.dataset, cache=cache)
    codes = {place: place.task or _load(plan, place, pairs, cache)[0].task for place in places}
    several = Counter(codes.values())
    available = list(PAIR_TASKS) if pairs is not None else []
    for place, code in codes.items():
        twin = pairs is not None and code in PAIR_TASKS
        name = task_name(code, slug(place.name) if twin or several[code] > 1 else "")
        available += [name, place.name]
        by_name = bool(asked & {name, place.name})
        if twin and not by_name:
            if plan.tasks is None or code in asked:
                notes.append(f"{place.name} ({code}) is left out, the captions give {code}; --tasks {name} takes it.")
            continue
        if by_name or plan.tasks is None or code in asked:
            found[name], note = _load(plan, place, pairs, cache)
            notes += [note] * bool(note)
    unknown = sorted(asked - set(available) - set(codes.values()) - set(found))
    if unknown:
        raise DataError(_unknown(plan.dataset, unknown, available))
    return found, notes


def _load(plan: DataPlan, place: TaskPlace, pairs: PairSet | None, cache: Path) -> tuple[RetrievalSet, str]:
    """The task of a folder. Its split is the plan's; beside pairs, whose splits may be called otherwise, the folder's own
    where it has no such split."""
    split, note = plan.split, ""
    if split is not None and pairs is not None and not _has_split(place, split):
        split = None
    if split is not None and place.layout == "parquet":
        raise DataError(f"{place.name} is a folder of parquet shards, which has no splits; leave out --split {split}.")
    task = load_retrieval(
        place.path, split=split, pool=plan.pool, limit_queries=plan.limit_queries, seed=plan.seed, cache=cache
    )
    if plan.split is not None and split is None and place.layout == "jsonl":
        note = f"{place.name} has no split {plan.split!r}; its {task.split or 'only'} queries are taken."
    return task, note


def _has_split(place: TaskPlace, split: str) -> bool:
    if place.layout == "parquet":
        return False
    try:
        mbeir_layout.layout_of(place.path, split=split)
    except DataError:
        return False
    return True


def _unknown(dataset: str, unknown: Sequence[str], available: Sequence[str]) -> str:
    known = list(dict.fromkeys(available))
    near = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return (
        f"{Path(dataset).name} holds no task {', '.join(unknown)}; expected some of {', '.join(known) or 'none'}.{hint}"
    )
