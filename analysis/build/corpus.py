"""All samples of one build in one sequence: the image-caption pairs for the concept scores, and the queries and candidates
of every task. What occurs twice (a caption that is also a candidate) is embedded once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np

from analysis.build.plan import DataPlan, slug
from analysis.build.tasks import choose_tasks
from analysis.data.disk import fingerprint
from analysis.data.registry import find_retrieval_tasks, load_pairs, pair_format, resolve
from analysis.data.retrieval import SampleTable
from analysis.data.samples import MODALITIES, SHORT, PairSet, RetrievalSet, Sample
from analysis.data.tasks import IMAGE, TEXT
from analysis.errors import DataError
from analysis.models.prompts import instruction_for

COMPARED = 100_000  # queries and candidates up to which samples are compared by their content
Content = tuple[str, str, str, str]
Sentences = Mapping[str, str]  # modality -> instruction


@dataclass(frozen=True)
class TaskRows:
    """One task as positions in `Corpus.samples`."""

    source: RetrievalSet
    queries: np.ndarray  # (Q,) int32
    candidates: np.ndarray  # (C,) int32
    prompts: dict[str, str]  # side -> instruction of the modality that its task's code names


class Samples(Sequence[Sample]):
    """Samples held as parts: a list, and behind it sides of large tasks as their loader holds them, which make a Sample
    when asked for one. 5.6 million candidates are then megabytes, not gigabytes."""

    def __init__(self, parts: Sequence[tuple[Sequence[Sample], Sentences | None]]) -> None:
        self._parts = list(parts)
        self._starts = np.concatenate([[0], np.cumsum([len(part) for part, _ in self._parts])]).astype(np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            return [*self._span(start, stop)] if step == 1 else [self[row] for row in range(start, stop, step)]
        row = int(index) + len(self) * (index < 0)
        if not 0 <= row < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        part, sentences = self._parts[number]
        sample = part[row - int(self._starts[number])]
        return sample if sentences is None else replace(sample, instruction=sentences[sample.modality])

    def __iter__(self) -> Iterator[Sample]:
        return self._span(0, len(self))

    def _span(self, start: int, stop: int) -> Iterator[Sample]:
        for (part, sentences), first in zip(self._parts, self._starts[:-1].tolist(), strict=True):
            here = part[max(start - first, 0) : max(min(stop - first, len(part)), 0)]
            yield from here if sentences is None else _with_sentences(here, sentences)


@dataclass(frozen=True)
class Corpus:
    name: str
    split: str
    revision: str
    samples: Sequence[Sample]
    tasks: dict[str, TaskRows]
    defects: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    has_pairs: bool = True  # image-caption pairs: what the concept scores are about
    n_paired: int = 0  # samples of the pairs; they come first

    @cached_property
    def task_revisions(self) -> dict[str, str]:
        """Of the tasks that do not come from the pairs: their files change numbers as well."""
        return {
            name: task.source.revision for name, task in self.tasks.items() if task.source.revision != self.revision
        }

    def is_of_pairs(self, task: str) -> bool:
        """Whether a task was made of the image-caption pairs, not read from files of its own."""
        return _of_pairs(self.tasks[task].source)

    def rows_without_picture(self, ok: np.ndarray) -> np.ndarray:
        """Rows of captions whose picture could not be embedded; ok (n,): which samples could."""
        pair_of = np.array([sample.pair_id for sample in self.samples[: self.n_paired]], np.int64)
        is_picture = np.array([sample.modality == "image" for sample in self.samples[: self.n_paired]], bool)
        lost = pair_of[is_picture & ~ok[: self.n_paired]]
        return np.flatnonzero(np.isin(pair_of, lost) & ~is_picture)

    def rows_of_other_tasks(self) -> np.ndarray:
        """Rows that tasks with files of their own use, each once."""
        sides = [
            side
            for name, task in self.tasks.items()
            if not self.is_of_pairs(name)
            for side in (task.queries, task.candidates)
        ]
        return np.unique(np.concatenate(sides)) if sides else np.empty(0, np.int32)

    def tasks_with_both(self) -> list[str]:
        """Tasks that hold samples of an image and a text together."""
        return [
            name
            for name, task in self.tasks.items()
            if any(_holds_both(side) for side in (task.source.queries, task.source.candidates))
        ]

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
            "task_revisions": self.task_revisions,
        }


def load_corpus(plan: DataPlan, prompts: str, *, cache: Path = Path("cache"), with_tasks: bool = True) -> Corpus:
    """Read the data of a plan in place: image-caption pairs, retrieval tasks, or both. Raises DataError when nothing usable
    is found."""
    path = resolve(plan.dataset, cache=cache)
    if pair_format(path) is None and find_retrieval_tasks(path):
        if plan.limit is not None:
            raise DataError(
                f"{path.name} holds retrieval tasks and no image-caption pairs, which --limit counts; use --limit-queries."
            )
        tasks, notes = choose_tasks(plan, None, cache=cache)
        if not tasks:
            raise DataError(
                f"{path.name} holds retrieval tasks only, so without one nothing is left to embed; name some."
            )
        return assemble(None, tasks, prompts, name=path.stem if path.is_file() else path.name, notes=notes)
    pairs = load_pairs(plan.dataset, split=plan.split, limit=plan.limit, seed=plan.seed, cache=cache)
    tasks, notes = choose_tasks(plan, pairs, cache=cache) if with_tasks else ({}, [])
    return assemble(pairs, tasks, prompts, notes=notes)


def assemble(
    pairs: PairSet | None, tasks: dict[str, RetrievalSet], prompts: str, *, name: str = "", notes: Sequence[str] = ()
) -> Corpus:
    """The samples of the pairs, then what the tasks add. A query or candidate with the content and instruction of an
    earlier sample is that sample; beyond COMPARED of them only tasks over one and the same pool share it."""
    first = [] if pairs is None else _with_sentences(pairs.samples, _sentences(prompts, None, None))
    others = [task for task in tasks.values() if not _of_pairs(task)]
    size = len(first) + sum(len(task.queries) + len(task.candidates) for task in others)
    collector = _ByContent(first) if others and size <= COMPARED else _ByPool(first)
    task_rows = {}
    for task_name, source in tasks.items():
        rows, said = {}, {}
        for side, batch, modality in zip(
            ("query", "candidate"), (source.queries, source.candidates), _modalities(source.task), strict=True
        ):
            sentences = _sentences(prompts, source.task, side)
            rows[side], said[side] = collector.rows_of(batch, sentences), sentences[modality]
        task_rows[task_name] = TaskRows(
            source, rows["query"], rows["candidate"], {"queries": said["query"], "candidates": said["candidate"]}
        )
    defects = [*pairs.defects.lines()] if pairs is not None else []
    for task_name, source in tasks.items():
        if pairs is None or source.defects is not pairs.defects:  # i2t and t2i made of the pairs share theirs
            defects += [f"{task_name}: {line}" for line in source.defects.lines()]
    if pairs is not None:
        name, split, revision = pairs.name, pairs.split, pairs.revision
    else:
        split = "+".join(sorted({source.split for source in tasks.values()} - {""}))
        revision = fingerprint(part for key in sorted(tasks) for part in (key, tasks[key].revision))
    return Corpus(
        slug(name),
        split,
        revision,
        collector.samples(),
        task_rows,
        defects,
        list(notes),
        has_pairs=pairs is not None,
        n_paired=0 if pairs is None else len(pairs.samples),
    )


class _ByContent:
    """Rows of samples, each (content, instruction) once."""

    def __init__(self, first: list[Sample]) -> None:
        self._samples = first
        self._own = {(sample.sample_id, sample.instruction): row for row, sample in enumerate(first)}
        self._position: dict[Content, int] = {}
        for row, sample in enumerate(first):
            self._position.setdefault(_content(sample), row)

    def rows_of(self, batch: Sequence[Sample], sentences: Sentences) -> np.ndarray:
        found = []
        for sample in _with_sentences(batch, sentences):
            row = self._own.get((sample.sample_id, sample.instruction), -1) if sample.pair_id >= 0 else -1
            if row < 0:
                row = self._position.setdefault(_content(sample), len(self._samples))
            if row == len(self._samples):
                self._samples.append(sample)
            found.append(row)
        return np.asarray(found, np.int32)

    def samples(self) -> Sequence[Sample]:
        return self._samples


class _ByPool:
    """Rows of whole sides, which are left as the loader holds them. Reading millions of pictures to compare them would
    cost more than it saves."""

    def __init__(self, first: list[Sample]) -> None:
        self._own = {(sample.sample_id, sample.instruction): row for row, sample in enumerate(first)}
        self._parts: list[tuple[Sequence[Sample], Sentences | None]] = [(first, None)]
        self._starts: dict[tuple, int] = {}
        self._length = len(first)

    def rows_of(self, batch: Sequence[Sample], sentences: Sentences) -> np.ndarray:
        if _in_pairs(batch):
            said = _with_sentences(batch, sentences)
            known = [self._own.get((sample.sample_id, sample.instruction), -1) for sample in said]
            if min(known) >= 0:
                return np.asarray(known, np.int32)
        identity = batch.identity if isinstance(batch, SampleTable) else ""
        key = (identity or f"side {len(self._parts)}", *sorted(sentences.items()))
        if key not in self._starts:
            self._starts[key] = self._length
            self._parts.append((batch, dict(sentences)))
            self._length += len(batch)
        start = self._starts[key]
        return np.arange(start, start + len(batch), dtype=np.int32)

    def samples(self) -> Sequence[Sample]:
        return Samples(self._parts)


def _of_pairs(task: RetrievalSet) -> bool:
    return _in_pairs(task.queries) and _in_pairs(task.candidates)


def _holds_both(batch: Sequence[Sample]) -> bool:
    if isinstance(batch, SampleTable):
        return bool((batch.bits == (TEXT | IMAGE)).any())
    return any(sample.modality == "image_text" for sample in batch)


def _in_pairs(batch: Sequence[Sample]) -> bool:
    return len(batch) > 0 and batch[0].pair_id >= 0


def _with_sentences(samples: Sequence[Sample], sentences: Sentences) -> list[Sample]:
    return [replace(sample, instruction=sentences[sample.modality]) for sample in samples]


def _sentences(prompts: str, task: str | None, side: str | None) -> Sentences:
    """The instruction of each modality: a pool may mix them."""
    return {modality: instruction_for(prompts, task, side, modality) for modality in MODALITIES}


def _modalities(task: str) -> tuple[str, str]:
    """Modalities of queries and candidates that a task's code names."""
    of = {short: modality for modality, short in SHORT.items()}
    query, candidate = task.split("2")
    return of[query], of[candidate]


def _content(sample: Sample) -> Content:
    """What makes two samples one: the same text, instruction and picture, byte for byte."""
    picture = ""
    if sample.picture is not None:
        picture = sample.sample_id
        with suppress(DataError):  # a picture that cannot be read is reported when it is to be embedded
            picture = hashlib.sha256(sample.picture.bytes()).hexdigest()
    return sample.modality, sample.text, picture, sample.instruction
