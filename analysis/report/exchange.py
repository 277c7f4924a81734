"""Rankings and results in the forms that other tools read: TREC run and qrels files, mteb's JSON of a task.

A TREC file names samples by their ids; white space in an id is written as %20 and so on. Scores in a run fall strictly with
the rank, because trec_eval sorts by score and breaks ties by name: exported, a tie keeps the order that this program gave it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import scipy.sparse as sp

from analysis.errors import DataError
from analysis.report.slides import ReportError
from analysis.retrieval.evaluation.bootstrap import bootstrap_interval
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.interventions.intervention import Intervention
from analysis.retrieval.ranking.lists import Lists
from analysis.retrieval.ranking.ranks import TargetRanks, canonical_qrels
from analysis.retrieval.recall import hits_of_ranks
from analysis.retrieval.task import RetrievalSpace

NOWHERE = 2**40  # rank of a target that a run does not list: behind every cut-off
DEPTH = 1000  # candidates a query, as trec_eval takes them
_NAME = re.compile(r"[^\w.+@-]+")


def run_text(lab: Lab, method: Intervention, *, depth: int = DEPTH) -> str:
    """A TREC run: `query Q0 candidate rank score tag`, the best `depth` candidates of every query."""
    tag = _NAME.sub("_", method.spec or "base") or "base"
    return "".join(_run_lines(lab.space, lab.lists(method), min(depth, lab.space.n_candidates), tag))


def qrels_text(space: RetrievalSpace) -> str:
    """TREC qrels: `query 0 candidate relevance`, relevant candidates in the pool."""
    queries, candidates = _names(space)
    qrels = canonical_qrels(space.qrels)
    rows = np.repeat(np.arange(qrels.shape[0]), np.diff(qrels.indptr))
    return "".join(f"{queries[q]} 0 {candidates[c]} 1\n" for q, c in zip(rows, qrels.indices, strict=True))


def imported_recall(
    space: RetrievalSpace,
    text: str,
    *,
    ks: Sequence[int] = (1, 5, 10),
    definition: str = "hit",
    base: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Recall of somebody else's run on this task, by our definition and with our intervals, as rows of `evaluate`.

    base (Q, ks): per-query recall to compare with. Queries without a line are misses. DataError for lines of another form
    and for names that the task does not have.
    """
    ranks = run_ranks(space, text)
    hits = hits_of_ranks(ranks, ks, definition=definition, n_relevant=space.n_relevant)
    rows: list[dict[str, Any]] = [{"method": "imported run", "spec": "", "k": k} for k in ks]
    values = {("recall", "low", "high"): hits}
    if base is not None:
        values["difference", "difference_low", "difference_high"] = hits - base
    for names, part in values.items():
        found = bootstrap_interval(part[:, None, :])
        for i, row in enumerate(rows):
            numbers = (found.value[0, i], found.low[0, i], found.high[0, i])
            row |= dict(zip(names, map(float, numbers), strict=True))
    return rows


def run_ranks(space: RetrievalSpace, text: str) -> TargetRanks:
    """Ranks of all targets in a TREC run, ordered as trec_eval does: by score, ties by name, from the end of the alphabet.
    A target that the run does not list ranks behind every candidate."""
    queries, candidates = _names(space)
    place_q, place_c = ({name: i for i, name in enumerate(names)} for names in (queries, candidates))
    listed: dict[int, list[tuple[float, str, int]]] = {}
    seen: set[tuple[str, str]] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        words = line.split()
        try:
            query, _, candidate, _, score, _ = words
            value = float(score)
        except ValueError:
            raise DataError(
                f"Line {number} of the run is {line[:80]!r}; expected `query Q0 candidate rank score tag`."
            ) from None
        if query not in place_q or candidate not in place_c:
            side, name = ("query", query) if query not in place_q else ("candidate", candidate)
            raise DataError(
                f"Line {number} of the run names {side} {name!r}, which task {space.task} does not have; expected sample ids "
                f"such as {(queries if side == 'query' else candidates)[0]!r}. Was the run made on another split?"
            )
        if not np.isfinite(value):
            raise DataError(f"Line {number} of the run has the score {score}; expected a finite number.")
        if (query, candidate) in seen:
            raise DataError(
                f"Line {number} of the run names {candidate!r} for {query!r} a second time; expected each once."
            )
        seen.add((query, candidate))
        listed.setdefault(place_q[query], []).append((float(np.float32(value)), candidate, place_c[candidate]))
    if not listed:
        raise DataError("The run has no line; expected `query Q0 candidate rank score tag`.")
    return _target_ranks(canonical_qrels(space.qrels), listed)


def mteb_json(
    space: RetrievalSpace, table: Any, *, task: str, model: str, split: str, ks: Sequence[int]
) -> dict[str, Any]:
    """The base of `evaluate` in the shape of an mteb TaskResult. Recall by "hit" is its hit_rate_at_k, by "fraction" its
    recall_at_k."""
    name = {"hit": "hit_rate_at", "fraction": "recall_at"}[table.attrs["definition"]]
    subsets = []
    for spec, rows in table.groupby("spec", sort=False):
        recall = rows.set_index("k")["recall"]
        numbers = {f"{name}_{k}": round(float(recall[k]), 5) for k in ks}
        subsets.append({
            "hf_subset": "default" if spec == "base" else str(spec), "languages": ["eng-Latn"],
            "main_score": numbers[f"{name}_{max(ks)}"], **numbers,
        })  # fmt: skip
    return {
        "dataset_revision": "", "task_name": task, "mteb_version": "2", "model": model, "scores": {split: subsets},
        "evaluation_time": None, "kg_co2_emissions": None, "queries": space.n_queries, "candidates": space.n_candidates,
    }  # fmt: skip


def read_run(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The run {path} cannot be read ({error}); expected a text file in TREC's form.") from error


def sample_id(name: str) -> str:
    """The sample that a name in a TREC file stands for."""
    return unquote(name)


def _run_lines(space: RetrievalSpace, lists: Lists, depth: int, tag: str) -> Iterator[str]:
    queries, candidates = _names(space)
    for query in range(space.n_queries):
        found = lists.top(query, depth)
        scores = _falling(np.asarray(found.scores[0], np.float64))
        for rank, (candidate, score) in enumerate(zip(found.ids[0], scores, strict=True), start=1):
            yield f"{queries[query]} Q0 {candidates[int(candidate)]} {rank} {score:.9g} {tag}\n"


def _falling(scores: np.ndarray) -> np.ndarray:
    """The scores, each below the one before by at least what trec_eval's 32-bit floats tell apart."""
    step = 4e-7 * max(1.0, float(np.abs(scores).max(initial=0)))
    steps = np.arange(len(scores)) * step
    return np.minimum.accumulate(scores + steps) - steps


def _names(space: RetrievalSpace) -> tuple[list[str], list[str]]:
    if space.query_names is None or space.candidate_names is None:
        raise ReportError("This task has no sample ids, so its rankings have no names; build the store again.")
    made = [
        [quote(str(name), safe="/:@+,;=~!$&'()*.-_") for name in names]
        for names in (space.query_names, space.candidate_names)
    ]
    for names in made:
        if len(set(names)) != len(names):
            raise ReportError("Two samples of this task have the same id; a TREC file cannot tell them apart.")
    return made[0], made[1]


def _target_ranks(qrels: sp.csr_array, listed: dict[int, list[tuple[float, str, int]]]) -> TargetRanks:
    rank = np.full(qrels.nnz, NOWHERE, np.int64)
    for query, entries in listed.items():
        order = sorted(entries, key=lambda entry: entry[:2], reverse=True)
        place = {candidate: at for at, (_, _, candidate) in enumerate(order, start=1)}
        span = slice(qrels.indptr[query], qrels.indptr[query + 1])
        rank[span] = [place.get(int(c), NOWHERE) for c in qrels.indices[span]]
    queries = np.repeat(np.arange(qrels.shape[0]), np.diff(qrels.indptr))
    return TargetRanks(queries, qrels.indices, rank, *qrels.shape)
