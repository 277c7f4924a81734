"""The retrieval tasks of a store: queries, candidates and qrels as rows of its samples, their support statistics, and the
recall of the standard methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from analysis.build.extraction import Extraction, Progress
from analysis.store.schema import SIDES
from analysis.store.write import StoreWriter

if TYPE_CHECKING:
    from analysis.retrieval.task import RetrievalSpace

SUPPORT_VARIANT = "mean"


@dataclass(frozen=True)
class StoredTask:
    """queries (Q,) and candidates (C,): rows of the store; qrels (Q, C); missing (Q,): targets of each query that are in
    no pool or could not be embedded; facts: what the manifest says of the task."""

    name: str
    queries: np.ndarray
    candidates: np.ndarray
    qrels: sp.csr_array
    missing: np.ndarray
    facts: dict[str, Any]


def stored_tasks(extraction: Extraction) -> list[StoredTask]:
    """The tasks of a corpus in rows of the store. Samples that could not be embedded leave queries and pool; a query that
    loses all its targets that way counts as one without target. Captions without their picture leave the tasks that were
    made of the pairs. A task without a query or candidate left is dropped."""
    everywhere = np.full(len(extraction.corpus.samples), -1, np.int64)
    everywhere[extraction.kept] = np.arange(len(extraction.kept))
    found = []
    paired = everywhere.copy()
    paired[extraction.lost] = -1
    for name, task in extraction.corpus.tasks.items():
        position = paired if extraction.corpus.is_of_pairs(name) else everywhere
        queries, candidates = position[task.queries], position[task.candidates]
        keep_q, keep_c = queries >= 0, candidates >= 0
        if not keep_q.any() or not keep_c.any():
            continue
        before = sp.csr_array(task.source.qrels)[keep_q]
        qrels = sp.csr_array(before[:, keep_c])
        absent = task.source.missing_per_query
        missing = np.diff(before.indptr) - np.diff(qrels.indptr)
        if absent is not None:
            missing = missing + absent[keep_q]
        facts = {
            "code": task.source.task,
            "prompts": task.prompts,
            "n_queries": int(keep_q.sum()),
            "n_candidates": int(keep_c.sum()),
            "dropped_queries": int((~keep_q).sum()),
            "dropped_candidates": int((~keep_c).sum()),
            "missing_targets": int(missing.sum()),
            "unanswerable_queries": int((np.diff(qrels.indptr) == 0).sum()),
            "note": task.source.note,
            "split": task.source.split,
        }
        found.append(
            StoredTask(
                name,
                queries[keep_q].astype(np.int32),
                candidates[keep_c].astype(np.int32),
                qrels,
                missing.astype(np.int32),
                facts,
            )
        )
    return found


def write_tasks(writer: StoreWriter, tasks: list[StoredTask]) -> dict[str, dict[str, Any]]:
    """Write retrieval/<task>/ and return task -> facts."""
    for task in tasks:
        folder = f"retrieval/{task.name}"
        writer.array(f"{folder}/queries.npy", task.queries)
        writer.array(f"{folder}/candidates.npy", task.candidates)
        relevant = task.qrels.tocoo()
        table = np.stack([relevant.row, relevant.col, np.maximum(relevant.data, 1)], axis=1)
        writer.array(f"{folder}/qrels.npy", table.astype(np.int32))
        if task.missing.any():
            writer.array(f"{folder}/missing.npy", task.missing)
    return {task.name: task.facts for task in tasks}


def write_results(
    writer: StoreWriter, facts: dict[str, Any], tasks: dict[str, dict[str, Any]], progress: Progress, *, device: str
) -> None:
    """Support statistics and the recall of the standard methods, through the same reader that every page uses."""
    from analysis.retrieval.evaluation.standard import standard_results
    from analysis.retrieval.task import space_from_store

    preview = writer.preview(facts, tasks)
    for name in tasks:
        _write_statistics(writer, name, space_from_store(preview, name), preview.width)
    preview = writer.preview(facts, tasks)  # results whiten with the spectra that are written now
    for done, name in enumerate(tasks):
        progress("retrieve", done, len(tasks))
        space = space_from_store(preview, name)
        writer.table(f"retrieval/{name}/results.parquet", standard_results(space, device=device))
    progress("retrieve", len(tasks), len(tasks))


def _write_statistics(writer: StoreWriter, task: str, space: RetrievalSpace, width: int) -> None:
    """Of wide embeddings the statistics of both sides, their spectra and the candidates' lengths after whitening, which take
    seconds: the lab then whitens without them. Of narrow ones nothing: they are measured as soon as read."""
    from analysis.retrieval.ranking.blocks import measured_statistics, support_lengths
    from analysis.retrieval.realign import EXACT_WIDTH

    if width <= EXACT_WIDTH:
        return
    for side in SIDES:
        found = measured_statistics(space, side, SUPPORT_VARIANT)
        if found is not None:
            series = support_lengths(space, side, SUPPORT_VARIANT, found) if side == "candidates" else None
            writer.support(task, side, SUPPORT_VARIANT, found.mean, found.covariance, found.n, found.spectrum, series)
