"""Retrieval: joining judgements, recall of a whole task, and the two sliders of the Retrieval lab at 3k x 25k x 3584."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.bench.measuring import Row, compare, median_seconds, peak_memory_mb
from analysis.bench.synthetic import RetrievalProblem, dictionary, retrieval_problem
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.interventions import BASE, Intervention, ReAlign
from analysis.retrieval.qrels import build_qrels
from analysis.retrieval.ranking.engine import LabEngine
from analysis.retrieval.ranking.length_series import length_series
from analysis.retrieval.ranking.ranks import TargetRanks, target_ranks
from analysis.retrieval.ranking.similarities import RowScores
from analysis.retrieval.realign import realign, statistics
from analysis.retrieval.recall import hits_of_ranks, mean_recall
from analysis.retrieval.removal import concept_subspace, remove_subspace
from analysis.retrieval.task import RetrievalSpace

WIDTH = 3584  # Qwen2-VL-7B
KS = (1, 5, 10)
ONE_PERCENT = 327  # of 32768 concepts


def run(quick: bool = False) -> Iterator[Row]:
    width = 64 if quick else WIDTH
    problem = retrieval_problem(200, 1000, width) if quick else retrieval_problem(5000, 25_000, width)
    yield qrels_against_loop(problem, quick)
    yield evaluate_against_product(problem, quick)
    problem = retrieval_problem(100, 1000, width) if quick else retrieval_problem(3000, 25_000, width)
    atoms = dictionary(3 * (20 if quick else ONE_PERCENT), width, seed=5)
    yield rank_slider(problem, atoms, quick)
    yield percentage_slider(problem, atoms, quick)
    yield new_method(problem, quick)


def qrels_against_loop(problem: RetrievalProblem, quick: bool) -> Row:
    """Judgements by name -> positions. The published evaluation filters the whole table once a query."""
    query_ids, candidate_ids = problem.judgements
    table = pd.DataFrame({"query-id": query_ids, "corpus-id": candidate_ids, "score": 1})
    position = {name: i for i, name in enumerate(problem.candidate_names)}
    found: list[list[int]] = []

    def loop() -> None:
        found.clear()
        for name in problem.query_names:
            relevant = table[(table["query-id"] == name) & (table["score"] > 0)]["corpus-id"].tolist()
            found.append([position[candidate] for candidate in relevant if candidate in position])

    def ours() -> None:
        build_qrels(query_ids, candidate_ids, queries=problem.query_names, candidates=problem.candidate_names)

    row = compare("retrieval", "qrels_vs_published_loop", ours, loop, name="pandas filter per query", warm=quick)
    expected = [sorted(part) for part in found]
    matrix = problem.qrels
    same = expected == [sorted(part) for part in np.split(matrix.indices, matrix.indptr[1:-1])]
    if not same:
        raise RuntimeError("the loop and the join found different targets")
    note = f"{len(problem.query_names):,} queries, {len(query_ids):,} judgements; same targets"
    return _noted(row, note, quick)


def evaluate_against_product(problem: RetrievalProblem, quick: bool) -> Row:
    """Names -> recall of all queries, and the bare product of all queries with all candidates it cannot go below."""
    query_ids, candidate_ids = problem.judgements
    product = np.empty((len(problem.queries), len(problem.candidates)), np.float32)
    recall: list[float] = []

    def ours() -> None:
        qrels = build_qrels(query_ids, candidate_ids, queries=problem.query_names, candidates=problem.candidate_names)
        ranks = target_ranks(RowScores(problem.queries, problem.candidates), qrels.matrix)
        recall[:] = _recall(ranks)

    row = compare(
        "retrieval", "evaluate_vs_matmul", ours, lambda: np.matmul(problem.queries, problem.candidates.T, out=product),
        name="queries @ candidates.T into a held array", repeats=5,
    )  # fmt: skip
    ratio = round((row.ours_s or 0) / (row.baseline_s or 1), 3)
    note = f"ratio is ours / product; {_size(problem)}, join of names included; recall@1/5/10 {_shares(recall)}"
    return _noted(replace(row, ratio=ratio), note, quick)


def rank_slider(problem: RetrievalProblem, atoms: np.ndarray, quick: bool) -> Row:
    """Moving r with similarities and projections held: recall of all queries at the largest r, the slowest."""
    m = len(atoms) // 3
    basis = concept_subspace(atoms, np.arange(m))
    held = []

    def begin() -> None:
        engine = LabEngine(problem.queries, problem.candidates, problem.qrels)
        projection = engine.projection(basis)
        engine.ranks(projection)
        held.append((engine, projection))

    peak = peak_memory_mb(begin)
    engine, projection = held[0]
    recall: dict[str, list[float]] = {}

    def ours(r: int = len(basis)) -> None:
        recall["ours"] = _recall(engine.ranks(projection, r))

    def again() -> None:
        queries, candidates = remove_subspace(problem.queries, basis), remove_subspace(problem.candidates, basis)
        recall["again"] = _recall(target_ranks(RowScores(queries, candidates), problem.qrels))

    row = compare(
        "retrieval", "rank_slider_3k_25k_3584", ours, again, name="removal and full product anew", peak_mb=peak,
        repeats=3, warm=False,
    )  # fmt: skip
    _same(recall["ours"], recall["again"])
    small = max(len(basis) // 16, 1)
    one = itertools.cycle(range(len(problem.queries)))
    lists = median_seconds(lambda: engine.ranking([next(one)], 10, projection, len(basis)), 9)
    note = (
        f"{_size(problem)}; recall of all queries at r {len(basis)}, at r {small} in "
        f"{median_seconds(lambda: ours(small)):.3g} s; top 10 of the query in view in {lists:.3g} s; same recall"
    )
    return _noted(row, note, quick)


def percentage_slider(problem: RetrievalProblem, atoms: np.ndarray, quick: bool) -> Row:
    """Moving the percentage: a new basis each time, with the similarities held."""
    m = len(atoms) // 3
    engine = LabEngine(problem.queries, problem.candidates, problem.qrels)
    engine.ranks()  # makes the similarities
    recall: dict[str, list[float]] = {}
    chosen = {
        side: itertools.cycle([np.arange(first, first + m) for first in (0, m, 2 * m)]) for side in ("ours", "again")
    }

    def ours() -> None:
        basis = concept_subspace(atoms, next(chosen["ours"]))
        recall["ours"] = _recall(engine.ranks(engine.projection(basis)))

    def again() -> None:
        basis = concept_subspace(atoms, next(chosen["again"]))
        queries, candidates = remove_subspace(problem.queries, basis), remove_subspace(problem.candidates, basis)
        recall["again"] = _recall(target_ranks(RowScores(queries, candidates), problem.qrels))

    row = compare("retrieval", "percentage_slider_3k_25k_3584", ours, again, name="removal and full product anew")
    _same(recall["ours"], recall["again"])
    return _noted(row, f"{_size(problem)}; {m} concepts: decomposition, projection and recall; same recall", quick)


def new_method(problem: RetrievalProblem, quick: bool) -> Row:
    """ReAlign, the dearest method, chosen in the lab: whitening of both sides and recall of all queries, with what a build
    keeps of wide embeddings. The other side computes all of it."""
    kept = {"queries": statistics(problem.queries), "candidates": statistics(problem.candidates)}
    kept = {side: replace(found, stored_spectrum=found.spectrum) for side, found in kept.items()}
    of = kept["candidates"]
    kept["candidates"] = replace(of, length_series=length_series(problem.candidates, of.mean, of.spectrum))
    space = RetrievalSpace({"mean": problem.queries}, {"mean": problem.candidates}, problem.qrels)
    lab = Lab(replace(space, stored_statistics=lambda side, variant: kept[side]))
    lab.measure(BASE)
    alphas = itertools.cycle([0.1, 0.2, 0.3])
    recall: dict[str, list[float]] = {}

    def ours(alpha: float | None = None) -> None:
        method = Intervention((ReAlign(next(alphas) if alpha is None else alpha),))
        recall["ours"] = _recall(lab.measure(method).ranks[0])

    def again(alpha: float = 0.1) -> None:
        queries, candidates = realign(problem.queries, problem.candidates, alpha=alpha)
        recall["again"] = _recall(target_ranks(RowScores(queries, candidates), problem.qrels))

    peak = peak_memory_mb(ours)
    row = compare(
        "retrieval", "new_method_3k_25k_3584", ours, again, name="moments, spectra and whitening anew", peak_mb=peak,
        repeats=3, warm=False,
    )  # fmt: skip
    ours(0.1)
    _same(recall["ours"], recall["again"])
    return _noted(
        row, f"{_size(problem)}; ReAlign at another alpha, spectra and length series stored; same recall", quick
    )


def _recall(ranks: TargetRanks) -> list[float]:
    return mean_recall(hits_of_ranks(ranks, KS))


def _same(ours: list[float], again: list[float]) -> None:
    if ours != again:
        raise RuntimeError(f"recall of the update {ours} is not that of the full computation {again}")


def _size(problem: RetrievalProblem) -> str:
    return f"{len(problem.queries):,} x {len(problem.candidates):,} x {problem.queries.shape[1]}"


def _shares(recall: list[float]) -> str:
    return " / ".join(f"{value:.3f}" for value in recall)


def _noted(row: Row, note: str, quick: bool) -> Row:
    return replace(row, note=f"quick: {note}" if quick else note)
