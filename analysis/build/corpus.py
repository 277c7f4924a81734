"""All samples of one build in one list: the image-caption pairs for the concept scores, and the queries and candidates
of every task. What occurs twice (a caption that is also a candidate) is embedded once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from analysis.build.plan import DataPlan, slug
from analysis.data.registry import find_retrieval_tasks, load_pairs, load_retrieval
from analysis.data.retrieval import pairs_as_retrieval
from analysis.data.samples import PairSet, RetrievalSet, Sample
from analysis.errors import DataError
from analysis.models.prompts import instruction_for

COMPARED = 100_000  # queries and candidates up to which pictures are compared by their bytes
Content = tuple[str, str, str, str]


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
    """One list of samples: those of the pairs, then what the tasks add. A query or candidate with the content and
    instruction of an earlier sample is that sample."""
    samples = [
        replace(sample, instruction=instruction_for(prompts, None, None, sample.modality)) for sample in pairs.samples
    ]
    compare = sum(len(task.queries) + len(task.candidates) for task in tasks.values()) <= COMPARED
    position: dict[Content, int] = {}
    for row, sample in enumerate(samples):
        position.setdefault(_content(sample, compare), row)
    own = {(sample.sample_id, sample.instruction): row for row, sample in enumerate(samples)}

    def rows_of(batch: Iterable[Sample], instruction: str) -> np.ndarray:
        found = []
        for sample in batch:
            said = replace(sample, instruction=instruction)
            row = own.get((said.sample_id, instruction), -1) if said.pair_id >= 0 else -1
            if row < 0:
                row = position.setdefault(_content(said, compare), len(samples))
            if row == len(samples):
                samples.append(said)
            found.append(row)
        return np.asarray(found, np.int32)

    task_rows = {}
    for name, source in tasks.items():
        query, candidate = (
            instruction_for(prompts, name, side, _modality(batch))
            for side, batch in (("query", source.queries), ("candidate", source.candidates))
        )
        task_rows[name] = TaskRows(
            source,
            rows_of(source.queries, query),
            rows_of(source.candidates, candidate),
            {"queries": query, "candidates": candidate},
        )
    defects = [*pairs.defects.lines()]
    for name, source in tasks.items():
        if source.defects is not pairs.defects:  # i2t and t2i made of the pairs share theirs
            defects += [f"{name}: {line}" for line in source.defects.lines()]
    return Corpus(slug(pairs.name), pairs.split, pairs.revision, samples, task_rows, defects)


def _content(sample: Sample, compare: bool) -> Content:
    """What makes two samples one: the same text, instruction and picture, byte for byte. Beyond COMPARED samples
    pictures are told apart by the sample's id, since reading millions of files to compare them costs more than it saves."""
    picture = ""
    if sample.picture is not None:
        picture = sample.sample_id
        if compare:
            with suppress(DataError):  # a picture that cannot be read is reported when it is to be embedded
                picture = hashlib.sha256(sample.picture.bytes()).hexdigest()
    return sample.modality, sample.text, picture, sample.instruction


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
