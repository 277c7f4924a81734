"""One retrieval task: its embeddings, its qrels, the concepts of its store, and the pool of candidates it is searched in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from analysis.data.tasks import CANDIDATE_POOLS
from analysis.errors import RetrievalError, one_of
from analysis.retrieval.ranking.ranks import canonical_qrels
from analysis.retrieval.realign import Statistics, statistics
from analysis.sae.codes import Codes

SIDES = ("queries", "candidates")
_KEPT_STATISTICS = 2  # both sides of one whitening: 150 MB each at 3,584 dimensions
_HELD = 32 << 20  # bytes of an array up to which it is kept; a larger one is read again, mostly from the file cache


class LazyRows(Mapping[str, np.ndarray]):
    """Embeddings by variant, read when they are asked for."""

    def __init__(self, variants: tuple[str, ...], load: Callable[[str], np.ndarray]) -> None:
        self._variants, self._load = variants, load
        self._held: dict[str, np.ndarray] = {}

    def __getitem__(self, variant: str) -> np.ndarray:
        if variant not in self._variants:
            raise KeyError(variant)
        if variant in self._held:
            return self._held[variant]
        rows = self._load(variant)
        if rows.nbytes <= _HELD:
            self._held[variant] = rows
        return rows

    def __contains__(self, variant: object) -> bool:
        """Without reading any: a Mapping's own would."""
        return variant in self._variants

    def __iter__(self) -> Iterator[str]:
        return iter(self._variants)

    def __len__(self) -> int:
        return len(self._variants)


@dataclass(frozen=True)
class RetrievalSpace:
    """One task of one store.

    queries, candidates: variant -> (Q, D) and (C, D) UN-normalised embeddings; qrels (Q, C), non-zero = relevant.
    scores: name -> (K,) columns of the concept table. load_sae gives an object with `dictionary` (K, D), needed by
    removal, edits and concept space; stored_codes(side, variant) the codes a store holds, None where it has none;
    stored_statistics(side, variant) the statistics of all unit embeddings of one side with their spectrum, or None;
    stored_modalities(side) the modality of each sample, or None.
    load_untrained gives the SAE that training started from and its concept scores, or None where one of them is not kept.
    query_names and candidate_names are sample ids.
    """

    queries: Mapping[str, np.ndarray]
    candidates: Mapping[str, np.ndarray]
    qrels: sp.csr_array
    scores: Mapping[str, Any] = field(default_factory=dict)
    load_sae: Callable[[], Any] | None = None
    stored_codes: Callable[[str, str], Codes | None] = lambda side, variant: None
    stored_statistics: Callable[[str, str], Statistics | None] = lambda side, variant: None
    stored_modalities: Callable[[str], np.ndarray | None] = lambda side: None
    load_untrained: Callable[[], tuple[Any, Mapping[str, Any]] | None] = lambda: None
    query_names: np.ndarray | None = None
    candidate_names: np.ndarray | None = None
    missing_targets: int = 0
    task: str = ""
    label: str = ""
    read_rows: Callable[[str, str, np.ndarray], np.ndarray] | None = None  # (side, variant, positions) -> some rows
    missing_per_query: np.ndarray | None = None  # (Q,) relevant candidates in no pool; None where none is missing

    @property
    def n_relevant(self) -> np.ndarray:
        """(Q,) relevant candidates of each query, in the pool or missing: what recall by "fraction" divides by."""
        in_pool = np.diff(canonical_qrels(self.qrels).indptr)
        return in_pool if self.missing_per_query is None else in_pool + self.missing_per_query

    @property
    def n_queries(self) -> int:
        return int(self.qrels.shape[0])

    @property
    def n_candidates(self) -> int:
        return int(self.qrels.shape[1])

    @property
    def n_pairs(self) -> int:
        """Query-candidate pairs: what every measurement looks at."""
        return self.n_queries * self.n_candidates

    def rows(self, side: str, variant: str) -> np.ndarray:
        """(n, D) embeddings of one side. RetrievalError for a variant that is not stored."""
        rows = self.queries if side == "queries" else self.candidates
        try:
            return rows[variant]
        except KeyError:
            raise RetrievalError(
                f"{self.label or 'This store'} has no embeddings {variant!r} of its {side}; it has "
                f"{', '.join(rows)}: choose one of those or build the store with that variant."
            ) from None

    def row(self, side: str, variant: str, position: int) -> np.ndarray:
        """(D,) one embedding, without reading those of all others where that can be helped."""
        if self.read_rows is None:
            return np.asarray(self.rows(side, variant)[position])
        return np.asarray(self.read_rows(side, variant, np.array([position]))[0])

    def modalities(self, side: str) -> np.ndarray:
        """(n,) modality of each sample of one side. RetrievalError where nobody knows."""
        found = self.stored_modalities(side)
        if found is None:
            raise RetrievalError(
                f"{self.label or 'This space'} does not say which modality its {side} have; expected one a sample: centre "
                "per side instead."
            )
        return found

    def codes(self, side: str, variant: str) -> Codes:
        """Codes of one side: the stored ones, else the embeddings encoded now (kept)."""
        if (side, variant) not in self._codes:
            stored = self.stored_codes(side, variant)
            self._codes[side, variant] = self.encode(self.rows(side, variant)) if stored is None else stored
        return self._codes[side, variant]

    def encode(self, h: np.ndarray) -> Codes:
        from analysis.sae.encode import encode

        return encode(self.sae, np.asarray(h, np.float32))

    @cached_property
    def sae(self) -> Any:
        if self.load_sae is None:
            raise RetrievalError(f"{self.label or 'This space'} has no SAE; expected one for anything about concepts.")
        return self.load_sae()

    @property
    def dictionary(self) -> np.ndarray:
        return np.asarray(self.sae.dictionary)

    def score(self, name: str) -> np.ndarray:
        """(K,) one column of the concept table."""
        if name not in self.scores:
            raise RetrievalError(
                f"{self.label or 'This space'} has no concept score {name!r}; `.venv/bin/python -m analysis rescore STORE` "
                "or a new build gives it."
            )
        return np.asarray(self.scores[name])

    @cached_property
    def untrained(self) -> RetrievalSpace:
        """The same task with the SAE that training started from, its dictionary and the scores that are kept of it.
        RetrievalError where there is none."""
        found = self.load_untrained()
        if found is None:
            raise RetrievalError(
                f"{self.label or 'This space'} keeps no untrained SAE, the control of one that a build trains; "
                "expected a store of `build` without --sae, or, where it is older, the same build again."
            )
        sae, scores = found
        return replace(self, scores=scores, load_sae=lambda: sae, stored_codes=lambda side, variant: None)

    def rarity(self, weights: str) -> np.ndarray:
        """(K,) weights of concept space: 1, or log(N/df) over the N queries and candidates of the task ("idf")."""
        codes = [self.codes(side, "mean") for side in SIDES]
        n_concepts = codes[0].n_concepts
        if weights == "equal":
            return np.ones(n_concepts)
        fired = sum(np.bincount(part.indices[part.values > 0], minlength=n_concepts) for part in codes)
        return np.log(max(sum(len(part) for part in codes), 1) / np.maximum(fired, 1))

    def statistics(self, side: str, variant: str, rows: np.ndarray) -> Statistics:
        """Of the unit embeddings of one side, rows (n, D) being those that have a direction. Stored or kept where they
        can be: the spectrum is most of what a whitening costs, and all alphas share it."""
        kept = self._statistics
        found = kept.get((side, variant))
        if found is None:
            stored = self.stored_statistics(side, variant)
            found = stored if stored is not None and stored.n == len(rows) else statistics(rows)
            for old in list(kept)[: len(kept) + 1 - _KEPT_STATISTICS]:
                kept.pop(old, None)
            kept[side, variant] = found
        return found

    def support(self, variant: str) -> Statistics | None:
        """Statistics of the task's own queries, with which one more is whitened: the stored ones, else measured now and
        kept. None where there are fewer than two queries. RetrievalError for a variant that is not stored."""
        from analysis.retrieval.ranking.blocks import measured_statistics

        if variant not in self._supports:
            stored = self.stored_statistics("queries", variant)
            self._supports[variant] = measured_statistics(self, "queries", variant) if stored is None else stored
        return self._supports[variant]

    @cached_property
    def _supports(self) -> dict[str, Statistics | None]:
        return {}

    @cached_property
    def _statistics(self) -> dict[tuple[str, str], Statistics]:
        return {}

    @cached_property
    def _codes(self) -> dict[tuple[str, str], Codes]:
        return {}


@dataclass(frozen=True)
class StoredRows:
    """Some embeddings of a task of a store by (side, variant, positions). Sent to another process, it opens the store
    there: rows do not travel."""

    store: Any
    rows: Mapping[str, np.ndarray]

    def __call__(self, side: str, variant: str, positions: np.ndarray) -> np.ndarray:
        return self.store.embeddings(variant, self.rows[side][positions])


def space_from_store(store: Any, task: str, pool: str = "local") -> RetrievalSpace:
    """The space of one task of an open store; embeddings, codes and the SAE are read when they are first used. pool: the
    task's own candidates ("local") or those of all tasks ("global"), see `task_in_pool`."""
    facts = task_in_pool(store, task, pool)
    rows = {"queries": np.asarray(facts.query_rows), "candidates": np.asarray(facts.candidate_rows)}
    names = store.samples["sample_id"].to_numpy()
    return RetrievalSpace(
        queries=_lazy(store, rows["queries"]),
        candidates=_lazy(store, rows["candidates"]),
        qrels=facts.qrels,
        scores=store.concepts,
        load_sae=store.sae,
        stored_codes=lambda side, variant: store.codes[rows[side]] if variant == "mean" else None,
        stored_statistics=lambda side, variant: (
            _statistics(store.support(task, side, variant)) if side == "queries" or pool == "local" else None
        ),
        load_untrained=lambda: _untrained(store),
        stored_modalities=lambda side: store.samples["modality"].to_numpy()[rows[side]],
        query_names=names[rows["queries"]],
        candidate_names=names[rows["candidates"]],
        missing_targets=int(facts.missing_targets),
        task=task,
        label=store.label,
        read_rows=StoredRows(store, rows),
        missing_per_query=facts.missing_per_query,
    )


def task_in_pool(store: Any, task: str, pool: str = "local") -> Any:
    """A task of an open store (analysis.store.read.Task) with its candidates from a pool.

    "local": the task's own candidates, as stored. "global": those, in their order, and behind them every candidate of the
    store's other tasks that is not among them; it holds all modalities that the store retrieves. Relevance is unchanged:
    whatever joins the pool is a wrong answer. RetrievalError for another pool.
    """
    one_of("pool", pool, CANDIDATE_POOLS)
    facts = store.task(task)
    if pool == "local":
        return facts
    own = np.asarray(facts.candidate_rows)
    others = np.concatenate([np.asarray(store.task(other).candidate_rows) for other in store.tasks])
    values, first = np.unique(others, return_index=True)
    joining = values[np.argsort(first)]
    rows = np.concatenate([own, joining[~np.isin(joining, own)]]).astype(own.dtype)
    qrels = sp.csr_array(
        (facts.qrels.data, facts.qrels.indices, facts.qrels.indptr), shape=(len(facts.query_rows), len(rows))
    )
    return replace(facts, candidate_rows=rows, qrels=qrels)


def queries_in_pool(facts: Any) -> int:
    """How many queries of a task are candidates themselves: each is then the most similar to itself."""
    return int(np.isin(facts.query_rows, facts.candidate_rows).sum())


def _lazy(store: Any, rows: np.ndarray) -> LazyRows:
    return LazyRows(tuple(store.variants), lambda variant: store.embeddings(variant, rows))


def _untrained(store: Any) -> tuple[Any, Mapping[str, Any]] | None:
    sae, scores = store.untrained_sae(), store.untrained
    return None if sae is None or scores is None else (sae, scores)


def _statistics(support: Any) -> Statistics | None:
    """What a store keeps of wide embeddings. Of narrow ones it may keep moments alone, which are as soon measured."""
    if support is None or support.spectrum is None:
        return None
    return Statistics(support.mean, support.covariance, support.n, support.spectrum, support.length_series)
