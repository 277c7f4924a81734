"""Is a store what its manifest says, and do its numbers agree with one another? Reads everything; changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.errors import AnalysisError
from analysis.store.read import Store, open_store
from analysis.store.schema import DERIVED, MANIFEST, NO_PAIRS, file_sha256, folder_sha256, is_derived, store_key

BLOCK = 65536


@dataclass(frozen=True)
class Report:
    """Outcome of `verify`: every check with its problem ("" = passed)."""

    path: Path
    checks: tuple[tuple[str, str], ...]

    @property
    def ok(self) -> bool:
        return all(not problem for _, problem in self.checks)

    @property
    def problems(self) -> list[str]:
        return [f"{name}: {problem}" for name, problem in self.checks if problem]


def verify(path: str | Path) -> Report:
    """Check hashes, shapes and invariants of the store at `path`. Never raises for a damaged store: says what is."""
    path = Path(path)
    try:
        store = open_store(path)
    except AnalysisError as error:
        return Report(path, (("opens", str(error)),))
    checks: list[tuple[str, Callable[[Store], str]]] = [
        ("manifest", _manifest),
        ("key", _key),
        ("hashes", _hashes),
        ("tables", _tables),
        ("embeddings", _embeddings),
        ("codes", _codes),
        ("postings", _postings),
        ("concepts", _concepts),
        ("tasks", _tasks),
        ("dictionary", _dictionary),
    ]
    results = []
    for name, check in checks:
        try:
            results.append((name, check(store)))
        except AnalysisError as error:
            results.append((name, str(error)))
        except Exception as error:  # whatever a damaged file makes a check stumble over is what the check has found
            results.append((name, f"the check stumbled over the data ({type(error).__name__}: {str(error)[:200]})"))
    return Report(path, tuple(results))


def _manifest(store: Store) -> str:
    """Every byte of the manifests was compared when the store was opened; here, what they say of the samples."""
    if store.manifest.schema == 1:
        return f"{MANIFEST} of schema 1 carries no digest; {store.older_note}"
    modality = store.samples["modality"].to_numpy()
    stated = store.facts.get("counts", {})
    if "samples" in stated and stated["samples"] != len(modality):
        return f"{MANIFEST} counts {stated['samples']} samples, samples.parquet holds {len(modality)}"
    for name, kind in (("images", "image"), ("captions", "text"), ("image_texts", "image_text")):
        if stated.get(name, 0) > (found := int((modality == kind).sum())):
            return f"{MANIFEST} counts {stated[name]} {name}, samples.parquet holds {found}"
    for name, facts in store.manifest.tasks.items():
        task = store.task(name)
        for side, rows in (("n_queries", task.query_rows), ("n_candidates", task.candidate_rows)):
            if facts.get(side, len(rows)) != len(rows):
                return f"{MANIFEST} says {name} has {side} {facts[side]}, its array holds {len(rows)}"
    return ""


def _key(store: Store) -> str:
    expected = store_key(store.config)
    return (
        "" if store.name.endswith(expected) else f"the folder is {store.name}, its configuration hashes to {expected}"
    )


def _hashes(store: Store) -> str:
    bad = [
        name
        for name, facts in store.file_facts().items()
        if not _same(store.thumbs if name == "thumbs/" else store.path / name, facts.sha256)
    ]
    listed = {*store.file_facts(), MANIFEST, DERIVED}
    for path in store.path.rglob("*"):
        name = path.relative_to(store.path).as_posix()
        if path.is_file() and name not in listed and not name.startswith("thumbs/") and not _left_by_rescore(name):
            bad.append(f"{name} (not in the manifest)")
    return f"altered: {', '.join(bad[:5])}{' ...' if len(bad) > 5 else ''}" if bad else ""


def _same(path: Path, sha256: str) -> bool:
    try:
        return (folder_sha256(path)[2] if path.is_dir() else file_sha256(path)) == sha256
    except OSError:
        return False


def _left_by_rescore(name: str) -> bool:
    """Tables that no manifest names, which an interrupted or running `rescore` leaves beside those that are read."""
    return is_derived(name) or name.startswith(("derived/", ".derived."))


def _tables(store: Store) -> str:
    """Columns and lengths are checked by the reader."""
    _ = store.samples, store.concepts, store.bridges
    gone = []
    for row, name in enumerate(store.samples["thumb"].to_numpy()):
        if name and ((path := store.thumb_path(row)) is None or not path.is_file()):
            gone.append(name)
    if not gone:
        return ""
    where = store.thumbs.relative_to(store.path if store.thumbs.parent == store.path else store.cache_dir)
    return f"{len(gone)} thumbnails are missing, first {gone[0]}; expected in {where.as_posix()}/, copy that folder too"


def _embeddings(store: Store) -> str:
    width = None
    for variant in store.variants:
        array = store._array(f"embeddings/{variant}.npy")
        width = width or array.shape[1]
        partial = store.has(f"embeddings/{variant}.rows.npy")
        expected = len(store._array(f"embeddings/{variant}.rows.npy")) if partial else store.n_samples
        if array.shape != (expected, width):
            return f"{variant} has shape {array.shape}, expected ({expected}, {width})"
        for start in range(0, len(array), BLOCK):
            block = np.asarray(array[start : start + BLOCK], np.float32)
            if not np.isfinite(block).all():
                return f"{variant} holds a value that is not finite"
            if not (np.abs(block).sum(axis=1) > 0).all():
                return f"{variant} holds a zero vector, which has no direction"
    return ""


def _codes(store: Store) -> str:
    codes = store.codes
    for start in range(0, len(codes), BLOCK):
        indices, values = (
            np.asarray(codes.indices[start : start + BLOCK]),
            np.asarray(codes.values[start : start + BLOCK]),
        )
        if indices.min(initial=0) < 0 or indices.max(initial=0) >= store.n_concepts:
            return f"a concept id lies outside 0..{store.n_concepts - 1}"
        if not np.isfinite(values).all() or values.min(initial=0) < 0:
            return "a code is negative or not finite"
        used = np.where(values > 0, indices, -1 - np.arange(indices.shape[1]))
        if (np.diff(np.sort(used, axis=1), axis=1) == 0).any():
            return "a concept stands twice in one sample"
    return ""


def _postings(store: Store) -> str:
    postings, codes = store.postings, store.codes
    counts = np.zeros(store.n_concepts, np.int64)
    for start in range(0, len(codes), BLOCK):
        values = np.asarray(codes.values[start : start + BLOCK])
        counts += np.bincount(np.asarray(codes.indices[start : start + BLOCK])[values > 0], minlength=store.n_concepts)
    if not np.array_equal(np.diff(postings.offsets), counts):
        return "the postings hold another number of activations than the codes"
    values = np.asarray(postings.values)
    falls = np.diff(values) <= 0
    boundary = np.asarray(postings.offsets[1:-1]) - 1
    boundary = boundary[(boundary >= 0) & (boundary < len(falls))]
    falls[boundary] = True
    return "" if falls.all() else "a concept's postings are not sorted by value"


def _concepts(store: Store) -> str:
    table = store.concepts
    counts = store.facts.get("counts", {})
    live = (table["energy_image"] + table["energy_text"]).to_numpy() > 0
    if not counts.get("images", 1) or not counts.get("captions", 1):
        live[:] = False  # one modality is not in the data: no concept has a modality score
    score = table["modality_score"].to_numpy(float)
    if np.isnan(score[live]).any() or not np.isnan(score[~live]).all():
        return "the modality score must be missing exactly for concepts that fire on no image and no text"
    if ((score[live] < 0) | (score[live] > 1)).any():
        return "a modality score lies outside [0, 1]"
    return _attribution(store)


def _attribution(store: Store) -> str:
    """Missing exactly where the facts say that there were no pairs; else the sum of its parts."""
    table = store.concepts.filter(regex="^(attribution|bridge_(?!partner))")
    if store.facts.get("pairs_from") == NO_PAIRS:
        return "" if table.isna().all(axis=None) and store.bridges.empty else "scores of pairs without any pairs"
    missing = table.columns[table.isna().any()].tolist()
    if missing:
        return f"{', '.join(missing)} are missing although the store has pairs"
    split = table["attribution_image"] + table["attribution_text"]
    scale = max(float(table["attribution"].abs().max()), 1e-12)
    off = (table["attribution"] - split).abs().max()
    return "" if off <= 1e-5 * scale else "attribution is not image part + text part"


def _tasks(store: Store) -> str:
    for name in store.tasks:
        task = store.task(name)
        rows = np.concatenate([task.query_rows, task.candidate_rows])
        if rows.min(initial=0) < 0 or rows.max(initial=0) >= store.n_samples:
            return f"{name} points outside the samples"
        missing = task.missing_per_query
        if missing is not None and (missing.shape != task.query_rows.shape or missing.sum() != task.missing_targets):
            return f"{name} says {task.missing_targets} targets are missing, its counts per query say otherwise"
        answerable = int((np.diff(task.qrels.indptr) > 0).sum())
        if answerable + task.unanswerable_queries != len(task.query_rows):
            return f"{name} has {len(task.query_rows) - answerable} queries without target, the manifest says otherwise"
    return ""


def _dictionary(store: Store) -> str:
    sae = store.sae()
    norms = np.linalg.norm(sae.dictionary, axis=1)
    if np.abs(norms[norms > 0] - 1).max(initial=0) > 1e-3:  # a concept that never fires may have no atom
        return "the dictionary's atoms are not unit vectors"
    width = store._array("embeddings/mean.npy").shape[1]
    return (
        "" if sae.dictionary.shape == (store.n_concepts, width) else f"the dictionary has shape {sae.dictionary.shape}"
    )
