"""The derived tables of a store that stands, computed again from its codes, embeddings and dictionary: no backbone, no data."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from analysis.build.extraction import Progress, Say
from analysis.build.files import disk_errors_of, link_or_copy, only_one
from analysis.build.score import (
    bridge_partner,
    caption_pairs,
    concept_names,
    evidence_of,
    neighbour_table,
    retrieval_pairs,
    second_words,
    untrained_table,
)
from analysis.build.second import second_backbone
from analysis.concepts.scores import PairRows, ScoreInputs, compute, of_untrained, score_names
from analysis.errors import StoreError
from analysis.sae.checkpoint import Sae, load_untrained
from analysis.store.manifest import Derived, Manifest
from analysis.store.read import Store, open_base, open_store
from analysis.store.schema import EFFECTS, UNTRAINED, concept_columns, current_versions
from analysis.store.write import DerivedWriter, remove_unread

SCORE = "score "  # how parts that are scores are called in schema.current_versions


def rescore(
    path: Path,
    *,
    everything: bool = False,
    effects: pd.DataFrame | None = None,
    say: Say = print,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Bring the derived tables of the store at `path` up to date and return the parts that were computed.

    Only parts of another version than the code's are computed, the others are taken over as they are; everything: all of
    them; effects: newly measured ones of single concepts, which are kept and from which scores follow. Samples, embeddings,
    codes and tasks are only read. The new tables are published together: a reader sees the old ones or the new ones, also
    after a kill. Raises StoreError where the store itself cannot be read or its SAE is gone.
    """
    path = Path(path)
    progress = progress or (lambda step, done, total: None)
    work = path.parent.parent / "work" / f"rescore-{path.name}"
    with only_one(work, "rescoring this store"):
        base = open_base(path)
        old = _tables_of(path, say)
        parts = tuple(current_versions())
        stale = parts if everything or old is None else tuple(part for part in old.older if part in parts)
        if effects is not None:
            stale = tuple(
                part for part in parts if part in stale or part == "effects" or part.startswith(f"{SCORE}effect")
            )
        if old is not None and not everything and not old.older and effects is None:
            remove_unread(path, old.derived)
            shutil.rmtree(work, ignore_errors=True)
            say(f"The tables of {path.name} are current.")
            return ()
        was = base.manifest
        manifest = Manifest(was.config, was.files, was.facts, was.tasks, was.created)
        with disk_errors_of(f"The tables of {path.name}"), DerivedWriter(path) as writer:
            _write(writer, base, old, set(stale), effects_of(old) if effects is None else effects, progress)
            derived = writer.publish(manifest, current_versions())
            if base.manifest.schema != manifest.schema:
                writer.adopt(manifest)
        remove_unread(path, derived)
        shutil.rmtree(work, ignore_errors=True)
    say(f"Computed again for {path.name}: {', '.join(stale) or 'nothing, only the layout is new'}.")
    return stale


def _tables_of(path: Path, say: Say) -> Store | None:
    """The store with its present tables where all of them can be read, None otherwise."""
    try:
        store = open_store(path)
        _ = store.concepts, store.bridges, store.neighbours
    except StoreError as error:
        say(f"{error} All tables are computed again.")
        return None
    return store


def _write(
    writer: DerivedWriter,
    base: Store,
    old: Store | None,
    stale: set[str],
    effects: pd.DataFrame | None,
    progress: Progress,
) -> None:
    scores = [name for name in score_names() if f"{SCORE}{name}" in stale]
    if old is None or scores or stale & {"bridges", "names", "map", "second", "untrained"}:
        _write_concepts(writer, base, old, scores, stale, effects, progress)
    else:
        for name in ("concepts.parquet", "bridges.parquet", UNTRAINED):
            if old.has(name):
                link_or_copy(old.file_path(name), writer.path(name))
    if effects is not None:
        writer.table(EFFECTS, effects)
    if old is None or "neighbours" in stale:
        writer.array("neighbours.npy", neighbour_table(base.sae()))
    else:
        link_or_copy(old.file_path("neighbours.npy"), writer.path("neighbours.npy"))
    for done, task in enumerate(base.tasks):
        progress("retrieve", done, len(base.tasks))
        name = f"retrieval/{task}/results.parquet"
        if old is None or "results" in stale or not old.has(name):
            from analysis.retrieval.evaluation.standard import standard_results
            from analysis.retrieval.task import space_from_store

            tables = {
                part: pd.read_parquet(path) if (path := writer.path(f"{part}.parquet")).is_file() else None
                for part in ("concepts", "untrained")
            }
            writer.table(name, standard_results(space_from_store(_with(base, tables), task)))
        else:
            link_or_copy(old.file_path(name), writer.path(name))


def _with(base: Store, tables: dict[str, pd.DataFrame | None]) -> Store:
    """The store as retrieval reads it while its tables are being written: removal sets come from the new scores."""
    store = Store(base.path, base.manifest, Derived("", ".", {}, current_versions()))
    store.__dict__.update(tables)  # where cached_property keeps what it has computed
    return store


def _write_concepts(
    writer: DerivedWriter,
    base: Store,
    old: Store | None,
    scores: list[str],
    stale: set[str],
    effects: pd.DataFrame | None,
    progress: Progress,
) -> None:
    sae, rows = base.sae(), pair_rows(base)
    vectors = base.mapped_embeddings()
    inputs = ScoreInputs(
        base.codes,
        sae.dictionary,
        rows,
        base.config.get("weighting", "samples"),
        evidence_of(base.samples["text"].tolist(), rows),
        vectors,
        second_backbone(base.cache_dir, base.config, base.samples["sample_id"].to_numpy()),
        effects,
    )
    progress("score", 0, 3)
    columns = {} if old is None else {name: old.concepts[name].to_numpy() for name in old.concepts}
    columns |= compute(inputs, scores)
    if old is None or "bridges" in stale:
        columns["bridge_partner"] = bridge_partner(inputs)
        writer.table("bridges.parquet", inputs.bridges[1])
    else:
        link_or_copy(old.file_path("bridges.parquet"), writer.path("bridges.parquet"))
    progress("score", 1, 3)
    if old is None or "names" in stale:
        columns["name"] = np.asarray(concept_names(inputs), object)
    if old is None or "second" in stale:
        columns |= {name: np.asarray(words, object) for name, words in second_words(inputs).items()}
    if old is None or "untrained" in stale or set(of_untrained()) & set(scores):
        start = load_untrained(base.cache_dir / base.config["sae"]["path"])
        if start is not None:
            writer.table(UNTRAINED, untrained_table(inputs, start, vectors))
    elif old.has(UNTRAINED):
        link_or_copy(old.file_path(UNTRAINED), writer.path(UNTRAINED))
    progress("score", 2, 3)
    if old is None or "map" in stale:
        columns["map_x"], columns["map_y"] = concept_positions(base, sae, columns["energy"])
    progress("score", 3, 3)
    writer.table("concepts.parquet", pd.DataFrame({name: columns[name] for name in concept_columns()}))


def pair_rows(store: Store) -> PairRows:
    """Which samples and pairs the scores of a store are about: the same rule as while it was built."""
    modality, pair_id = store.samples["modality"].to_numpy(), store.samples["pair_id"].to_numpy()
    if (pair_id >= 0).any():
        return caption_pairs(pair_id, modality)
    tasks: list[tuple[str, np.ndarray, np.ndarray, sp.csr_array]] = []
    for name in store.manifest.tasks:
        task = store.task(name)
        tasks.append((name, task.query_rows, task.candidate_rows, task.qrels))
    return retrieval_pairs(modality, tasks)


def effects_of(store: Store | None) -> pd.DataFrame | None:
    """What was measured of single concepts, if it is of the code's version."""
    if store is None or "effects" in store.older:
        return None
    return store.effects


def concept_positions(store: Store, sae: Sae, energy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from analysis.concepts.map2d import concept_map

    seed = store.config["data"].get("seed", 0)
    position = concept_map(sae.dictionary, alive=np.asarray(energy) > 0, seed=seed)
    return position[:, 0], position[:, 1]
