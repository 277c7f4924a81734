"""The second half of a build: codes, scores, names, token views and retrieval results, written as one store."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.build.build import git_commit, versions
from analysis.build.plan import BuildPlan, Config
from analysis.build.score import PairRows, bridge_table, concept_table, neighbour_table, pair_rows
from analysis.build.shards import read_shards
from analysis.errors import AnalysisError
from analysis.sae.checkpoint import Sae
from analysis.sae.codes import Codes
from analysis.sae.encode import encode
from analysis.sae.quality import R2_WARN, Quality, reconstruction
from analysis.store.schema import store_key
from analysis.store.write import StoreWriter

if TYPE_CHECKING:
    from analysis.build.build import Extraction, Progress, Say, _Backbone

SUPPORT_VARIANT = "mean"


@dataclass(frozen=True)
class Assembled:
    """What the scores need: kept samples as a table, their codes, and where the pairs are."""

    samples: pd.DataFrame
    codes: Codes
    rows: PairRows


def assemble_store(
    plan: BuildPlan,
    config: Config,
    extraction: Extraction,
    sae: Sae,
    opened: _Backbone,
    *,
    until: str,
    say: Say,
    progress: Progress,
    target: Path,
) -> Path:
    """Encode, score, retrieve and publish; with `until` before "publish" the tables stay in the work folder."""
    work = plan.cache / "work" / f"store-{store_key(config)}"
    work.mkdir(parents=True, exist_ok=True)
    vectors, _ = extraction.vectors("mean", plan.embedding_dtype)
    codes = _encode(work, sae, vectors, plan)
    samples = _sample_table(extraction)
    rows = pair_rows(samples["pair_id"].to_numpy(), samples["modality"].to_numpy())
    quality = _quality(sae, vectors, codes, rows, say)
    if until == "encode":
        return work
    assembled = Assembled(samples, codes, rows)
    concepts, bridges = _score(work, plan, sae, assembled, progress)
    if until == "score":
        return work
    with StoreWriter(plan.cache, extraction.config["backbone"]["key"], extraction.corpus.name, config) as writer:
        writer.concepts(concepts)
        writer.bridges(bridges)
        writer.array("neighbours.npy", neighbour_table(sae))
        writer.array("codes/indices.npy", codes.indices)
        writer.array("codes/values.npy", codes.values)
        _postings(writer, codes)
        _embeddings(writer, plan, extraction)
        samples["thumb"] = _thumbs(writer, extraction)
        writer.samples(samples)
        token_facts = _token_views(writer, plan, extraction, sae, opened, samples, progress)
        tasks = _tasks(writer, extraction)
        facts = _facts(plan, extraction, assembled, quality, token_facts)
        _results(writer, facts, tasks, progress)
        path = writer.publish(facts, tasks)
    shutil.rmtree(work, ignore_errors=True)
    say(f"Published {path}")
    return path


def _encode(work: Path, sae: Sae, vectors: np.ndarray, plan: BuildPlan) -> Codes:
    """Codes of the vectors as stored, so that encode(sae, store.embeddings()) gives the store's codes again."""
    done = work / "codes.npz"
    if done.is_file():
        with np.load(done, allow_pickle=False) as file:
            return Codes(file["indices"], file["values"], sae.n_concepts)
    device = "cpu" if plan.model.device == "auto" else plan.model.device
    codes = encode(sae, vectors.astype(np.float32), device=device)
    np.savez(work / ".codes.npz", indices=codes.indices, values=codes.values)
    (work / ".codes.npz").replace(done)
    return codes


def _sample_table(extraction: Extraction) -> pd.DataFrame:
    kept = [extraction.corpus.samples[row] for row in extraction.kept]
    return pd.DataFrame(
        {
            "sample_id": [s.sample_id for s in kept],
            "pair_id": np.asarray([s.pair_id for s in kept], np.int32),
            "modality": [s.modality for s in kept],
            "text": [s.text for s in kept],
            "instruction": [s.instruction for s in kept],
            "thumb": "",
            "source": [s.source for s in kept],
            "split": [s.split for s in kept],
            "licence": [s.licence for s in kept],
        }
    )


def _quality(sae: Sae, vectors: np.ndarray, codes: Codes, rows: PairRows, say: Say) -> dict[str, Quality]:
    """Reconstruction on exactly what is analysed, by modality; a poor one is said, with what probably differs."""
    found = {}
    for name, where in (
        ("all", np.concatenate([rows.images, rows.texts])),
        ("image", rows.images),
        ("text", rows.texts),
    ):
        if len(where):
            found[name] = reconstruction(sae, vectors[where].astype(np.float32), codes[where])
    if found and found["all"].r2_per_dimension < R2_WARN:
        say(
            f"The SAE reconstructs these embeddings poorly (R² {found['all'].r2_per_dimension:.2f}, below {R2_WARN}): its "
            "concepts mean little here. Usually the tap (pre- or post-norm), the pooling or the unit (token or pooled "
            "vectors) differs from what it was trained on."
        )
    return found


def _score(
    work: Path, plan: BuildPlan, sae: Sae, assembled: Assembled, progress: Progress
) -> tuple[pd.DataFrame, pd.DataFrame]:
    if (work / "concepts.parquet").is_file() and (work / "bridges.parquet").is_file():
        return pd.read_parquet(work / "concepts.parquet"), pd.read_parquet(work / "bridges.parquet")
    if not len(assembled.rows.pair_image):
        raise AnalysisError(
            "The data holds no image with a caption that could both be embedded; concept scores need pairs: "
            "give a dataset with image-caption pairs."
        )
    progress("score", 0, 4)
    concepts = concept_table(assembled.codes, sae.dictionary, assembled.rows, weighting=plan.weighting)
    progress("score", 1, 4)
    bridges = bridge_table(assembled.codes, sae.dictionary, assembled.rows)
    progress("score", 2, 4)
    concepts["name"] = _names(assembled, concepts)
    progress("score", 3, 4)
    concepts["map_x"], concepts["map_y"] = _map(sae, concepts, plan.sae.seed)
    progress("score", 4, 4)
    bridges.to_parquet(work / "bridges.parquet", index=False)
    concepts.to_parquet(work / "concepts.parquet", index=False)
    return concepts, bridges


def _names(assembled: Assembled, concepts: pd.DataFrame) -> list[str]:
    from analysis.concepts.names import name_concepts

    samples = assembled.samples
    captions: dict[int, list[str]] = {}
    for pair, text in zip(
        samples["pair_id"].to_numpy()[assembled.rows.texts],
        samples["text"].to_numpy()[assembled.rows.texts],
        strict=True,
    ):
        captions.setdefault(int(pair), []).append(text)
    own_words = [
        [text] if text else captions.get(int(pair), [])
        for text, pair in zip(samples["text"], samples["pair_id"], strict=True)
    ]
    return name_concepts(assembled.codes, own_words, n_concepts=len(concepts))


def _map(sae: Sae, concepts: pd.DataFrame, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from analysis.concepts.map2d import concept_map

    position = concept_map(sae.dictionary, alive=concepts["energy"].to_numpy() > 0, seed=seed)
    return position[:, 0].astype(np.float32), position[:, 1].astype(np.float32)


def _postings(writer: StoreWriter, codes: Codes) -> None:
    from analysis.concepts.postings import build_postings

    postings = build_postings(codes)
    writer.array("postings/offsets.npy", postings.offsets)
    writer.array("postings/rows.npy", postings.sample_rows)
    writer.array("postings/values.npy", postings.values)


def _embeddings(writer: StoreWriter, plan: BuildPlan, extraction: Extraction) -> None:
    for variant in extraction.job.variants:
        vectors, defined = extraction.vectors(variant, plan.embedding_dtype)
        if defined.all():
            writer.array(f"embeddings/{variant}.npy", vectors)
        elif defined.any():
            writer.array(f"embeddings/{variant}.npy", vectors[defined])
            writer.array(f"embeddings/{variant}.rows.npy", np.flatnonzero(defined).astype(np.int32))


def _thumbs(writer: StoreWriter, extraction: Extraction) -> list[str]:
    """Write each different picture once; samples that share a picture share its file."""
    import hashlib

    names: list[str] = []
    for shard in read_shards(extraction.job):
        for ok, thumb in zip(shard.ok, shard.thumbs, strict=True):
            if not ok:
                continue
            if not thumb:
                names.append("")
                continue
            name = f"thumbs/{hashlib.sha256(thumb).hexdigest()[:16]}.webp"
            path = writer.path(name)
            if not path.exists():
                path.write_bytes(thumb)
            names.append(name)
    return names


def _token_views(
    writer: StoreWriter,
    plan: BuildPlan,
    extraction: Extraction,
    sae: Sae,
    opened: _Backbone,
    samples: pd.DataFrame,
    progress: Progress,
) -> dict[str, Any]:
    """Codes of every token of the first images and captions: heatmaps without a model."""
    pairs = samples["pair_id"].to_numpy()
    texts = pairs[np.flatnonzero((pairs >= 0) & (samples["modality"].to_numpy() == "text"))]
    first_text = np.unique(texts, return_index=True)[1]
    text_rows = np.flatnonzero((pairs >= 0) & (samples["modality"].to_numpy() == "text"))[first_text]
    image_rows = np.flatnonzero((pairs >= 0) & (samples["modality"].to_numpy() == "image"))
    half = plan.token_views // 2
    chosen = np.concatenate([image_rows[:half], text_rows[: plan.token_views - half]]).astype(np.int64)
    if not len(chosen):
        return {}
    backbone = opened.get()
    entries, roles, states = [], [], []
    start = 0
    wanted = [extraction.corpus.samples[extraction.kept[row]] for row in chosen]
    for place, view in backbone.stream_tokens(wanted):
        row = chosen[place]
        real = view.roles > 0
        length = int(real.sum())
        entries.append(
            {
                "row": int(row),
                "start": start,
                "length": length,
                "grid_rows": view.grid[0] if view.grid else 0,
                "grid_columns": view.grid[1] if view.grid else 0,
                "strings": [s for s, keep in zip(view.strings, real, strict=True) if keep],
            }
        )
        roles.append(view.roles[real].astype(np.int8))
        states.append(view.states[real].astype(np.float32))
        start += length
        progress("token views", len(entries), len(chosen))
    tokens = np.concatenate(states)
    codes = encode(sae, tokens)
    writer.table("tokens/index.parquet", pd.DataFrame(entries))
    writer.array("tokens/roles.npy", np.concatenate(roles))
    writer.array("tokens/indices.npy", codes.indices)
    writer.array("tokens/values.npy", codes.values)
    return {
        "samples": len(entries),
        "tokens": int(start),
        "r2_tokens": round(reconstruction(sae, tokens, codes).r2_per_dimension, 4),
        "r2_encode_then_pool": _r2_encode_then_pool(sae, states, codes),
    }


def _r2_encode_then_pool(sae: Sae, states: list[np.ndarray], codes: Codes) -> float:
    """R² of the pooled vector from the mean of its tokens' codes (per-dimension mean): the other sample code."""
    pooled = np.stack([state.mean(axis=0) for state in states])
    lengths = np.asarray([len(state) for state in states])
    owner = np.repeat(np.arange(len(states)), lengths)
    dense = codes.to_csr() @ sae.dictionary
    estimate = np.zeros_like(pooled)
    np.add.at(estimate, owner, dense)
    estimate /= lengths[:, None]
    total = float(((pooled - pooled.mean(axis=0)) ** 2).sum())
    return round(1 - float(((pooled - estimate) ** 2).sum()) / max(total, 1e-12), 4)


def _tasks(writer: StoreWriter, extraction: Extraction) -> dict[str, dict[str, Any]]:
    """Queries, candidates and qrels as rows of the sample table. Samples that could not be embedded leave the pool;
    a query that loses all its targets that way counts as one without target."""
    position = np.full(len(extraction.corpus.samples), -1, np.int64)
    position[extraction.kept] = np.arange(len(extraction.kept))
    facts = {}
    for name, task in extraction.corpus.tasks.items():
        queries, candidates = position[task.queries], position[task.candidates]
        keep_q, keep_c = queries >= 0, candidates >= 0
        if not keep_q.any() or not keep_c.any():
            continue
        before = task.source.qrels
        qrels = before[keep_q][:, keep_c].tocoo()
        lost = int(before[keep_q].nnz - qrels.nnz)
        answerable = np.zeros(int(keep_q.sum()), bool)
        answerable[qrels.row] = True
        writer.array(f"retrieval/{name}/queries.npy", queries[keep_q].astype(np.int32))
        writer.array(f"retrieval/{name}/candidates.npy", candidates[keep_c].astype(np.int32))
        table = np.stack([qrels.row, qrels.col, np.maximum(qrels.data, 1).astype(np.int64)], axis=1)
        writer.array(f"retrieval/{name}/qrels.npy", table.astype(np.int32))
        facts[name] = {
            "prompts": task.prompts,
            "n_queries": int(keep_q.sum()),
            "n_candidates": int(keep_c.sum()),
            "missing_targets": task.source.missing_targets + lost,
            "unanswerable_queries": int((~answerable).sum()),
            "note": task.source.note,
        }
    return facts


def _facts(
    plan: BuildPlan,
    extraction: Extraction,
    assembled: Assembled,
    quality: dict[str, Quality],
    tokens: dict[str, Any],
) -> dict[str, Any]:
    return {
        "demo": extraction.corpus.name == "emoji-scenes" or bool(extraction.config["backbone"].get("demo")),
        "counts": {
            "samples": len(assembled.samples),
            "images": len(assembled.rows.images),
            "captions": len(assembled.rows.texts),
            "pairs": len(assembled.rows.pair_image),
        },
        "quality": {name: vars(value) for name, value in quality.items()},
        "tokens": tokens,
        "defects": extraction.corpus.defects,
        "skipped": {"count": len(extraction.skipped), "first": next(iter(extraction.skipped.items()), None)},
        "truncated_texts": len(extraction.truncated),
        "seconds_extract": round(extraction.seconds, 1),
        "device": plan.model.device,
        "versions": versions(),
        "commit": git_commit(),
    }


def _results(writer: StoreWriter, facts: dict[str, Any], tasks: dict[str, dict[str, Any]], progress: Progress) -> None:
    """Support statistics and the recall of the standard methods, through the same reader that every page uses."""
    from analysis.retrieval.realign import statistics
    from analysis.retrieval.spaces import space_from_store
    from analysis.retrieval.standard import standard_results

    preview = writer.preview(facts, tasks)
    for done, name in enumerate(tasks):
        progress("retrieve", done, len(tasks))
        task = preview.task(name)
        for side, rows in (("queries", task.query_rows), ("candidates", task.candidate_rows)):
            if len(rows) >= 2:
                found = statistics(preview.embeddings(SUPPORT_VARIANT, rows))
                writer.support(name, side, SUPPORT_VARIANT, found.mean, found.covariance, found.n)
        writer.table(f"retrieval/{name}/results.parquet", standard_results(space_from_store(preview, name)))
    progress("retrieve", len(tasks), len(tasks))
