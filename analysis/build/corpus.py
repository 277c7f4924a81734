"""All samples of one build in one list: the image-caption pairs for the concept scores, and the queries and candidates
of every task. What occurs twice (a caption that is also a candidate) is embedded once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from analysis.build.plan import DataPlan, slug
from analysis.data.registry import find_retrieval_tasks, load_pairs, load_retrieval
from analysis.data.retrieval import pairs_as_retrieval
from analysis.data.samples import PairSet, RetrievalSet, Sample
from analysis.errors import DataError
from analysis.models.prompts import instruction_for


@dataclass(frozen=True)
class TaskRows:
    """One task as positions in `Corpus.samples`."""

    source: RetrievalSet
    queries: np.ndarray  # (Q,) int32
    candidates: np.ndarray  # (C,) int32
    prompts: dict[str, str]  # side -> instruction


@dataclass(frozen=True)
class Corpus:
    name: str
    split: str
    revision: str
    samples: list[Sample]
    tasks: dict[str, TaskRows]
    defects: list[str] = field(default_factory=list)

    def config(self, plan: DataPlan) -> dict[str, object]:
        """The part of the store's config that says which data this is."""
        return {
            "name": self.name,
            "split": self.split,
            "revision": self.revision,
            "limit": plan.limit,
            "seed": plan.seed,
            "limit_queries": plan.limit_queries,
            "tasks": sorted(self.tasks),
        }


def load_corpus(plan: DataPlan, prompts: str, *, cache: Path = Path("cache"), with_tasks: bool = True) -> Corpus:
    """Read the data of a plan in place. Raises DataError when nothing usable is found."""
    pairs = load_pairs(plan.dataset, split=plan.split, limit=plan.limit, seed=plan.seed, cache=cache)
    tasks = _tasks(plan, pairs, cache) if with_tasks else {}
    return assemble(pairs, tasks, prompts)


def assemble(pairs: PairSet, tasks: dict[str, RetrievalSet], prompts: str) -> Corpus:
    """One list of samples, each (content, instruction) once."""
    rows: dict[tuple[str, str, str], int] = {}
    samples: list[Sample] = []

    def add(batch: Iterable[Sample], instruction: str | None, *, prefix: str) -> np.ndarray:
        found = []
        for sample in batch:
            sentence = instruction_for(prompts, None, None, sample.modality) if instruction is None else instruction
            key = (prefix if sample.pair_id < 0 else "", sample.sample_id, sentence)
            if key not in rows:
                rows[key] = len(samples)
                samples.append(replace(sample, instruction=sentence))
            found.append(rows[key])
        return np.asarray(found, np.int32)

    add(pairs.samples, None, prefix="")
    task_rows = {}
    for name, source in tasks.items():
        prefix = source.name or name
        sentences = {
            side: instruction_for(prompts, name, side, _modality(batch))
            for side, batch in (("query", source.queries), ("candidate", source.candidates))
        }
        task_rows[name] = TaskRows(
            source,
            add(source.queries, sentences["query"], prefix=f"{prefix}/query"),
            add(source.candidates, sentences["candidate"], prefix=f"{prefix}/candidate"),
            {"queries": sentences["query"], "candidates": sentences["candidate"]},
        )
    defects = [*pairs.defects.lines()]
    for name, source in tasks.items():
        if source.defects is not pairs.defects:  # i2t and t2i made of the pairs share theirs
            defects += [f"{name}: {line}" for line in source.defects.lines()]
    return Corpus(slug(pairs.name), pairs.split, pairs.revision, samples, task_rows, defects)


def _tasks(plan: DataPlan, pairs: PairSet, cache: Path) -> dict[str, RetrievalSet]:
    """i2t and t2i come from the pairs themselves; every other code from M-BEIR folders beside them."""
    found: dict[str, RetrievalSet] = {}
    if plan.tasks is None or "i2t" in plan.tasks:
        found["i2t"] = pairs_as_retrieval(pairs, "i2t")
    if plan.tasks is None or "t2i" in plan.tasks:
        found["t2i"] = pairs_as_retrieval(pairs, "t2i")
    for place in find_retrieval_tasks(plan.dataset, cache=cache):
        if place.task in found or (plan.tasks is not None and place.task not in plan.tasks):
            continue
        found[place.task] = load_retrieval(
            place.path, task=place.task, limit_queries=plan.limit_queries, seed=plan.seed, cache=cache
        )
    missing = sorted(set(plan.tasks or ()) - set(found))
    if missing:
        raise DataError(f"{plan.dataset} holds the tasks {sorted(found)}, not {missing}: choose among those.")
    return found


def _modality(batch: Sequence[Sample]) -> str:
    return batch[0].modality if batch else "text"
