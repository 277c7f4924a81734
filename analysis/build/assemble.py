"""The second half of a build: codes, scores, names, token views and retrieval results, written as one store."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.build.diagnose import TRAINED_HERE, TRIED, Diagnosis, diagnose
from analysis.build.extraction import Extraction, OpenBackbone, Progress, Say
from analysis.build.files import disk_errors_of, link_or_copy, only_one, save_blocks
from analysis.build.plan import BuildPlan, Config
from analysis.build.quality import as_facts, is_poor, measure
from analysis.build.rescore import rescore
from analysis.build.score import (
    caption_pairs,
    evidence_of,
    neighbour_table,
    retrieval_pairs,
    score_tables,
    untrained_table,
)
from analysis.build.second import second_backbone
from analysis.build.stored_tasks import StoredTask, stored_tasks, write_results, write_tasks
from analysis.build.token_views import choose_rows, write_token_views
from analysis.concepts.scores import PairRows, ScoreInputs
from analysis.errors import NewerStore, StoreError
from analysis.models.devices import cuda_or_cpu
from analysis.sae.checkpoint import Sae, load_untrained
from analysis.sae.codes import Codes
from analysis.sae.encode import encode
from analysis.sae.quality import R2_WARN, Quality
from analysis.store.read import open_base, open_store
from analysis.store.schema import IMPORTED, MANIFEST, SAMPLE_COLUMNS, UNTRAINED, store_key
from analysis.store.write import StoreWriter


@dataclass(frozen=True)
class Assembled:
    """What the tables are made of: samples in the order of the store, their embeddings as stored (a memory map), their
    codes, the pairs of the concept scores and the retrieval tasks."""

    samples: pd.DataFrame
    vectors: np.ndarray
    codes: Codes
    rows: PairRows
    tasks: list[StoredTask]


def assemble_store(
    plan: BuildPlan,
    config: Config,
    extraction: Extraction,
    sae: Sae,
    opened: OpenBackbone,
    *,
    until: str,
    say: Say,
    progress: Progress,
) -> Path:
    """Encode, score, retrieve and publish; with `until` before "publish" the tables stay in the work folder, which is
    returned. A store of this configuration that stands is returned; older tables of it are computed again, and one that
    cannot be opened is replaced."""
    work = plan.cache / "work" / f"store-{store_key(config)}"
    target = plan.cache / extraction.config["backbone"]["key"] / f"{extraction.corpus.name}-{store_key(config)}"
    with only_one(work, "assembling a store"):
        if until == "publish" and _stands(target, say):
            shutil.rmtree(work, ignore_errors=True)
            return target
        with disk_errors_of(f"The store of {extraction.corpus.name}"):
            assembled = _assemble(work, plan, extraction, sae)
            if until == "encode":
                return work
            quality = measure(sae, assembled.vectors, assembled.codes, assembled.rows)
            if cut := quality["all"].cut_share if "all" in quality else 0.0:
                say(
                    f"Codes are held in {sae.top_k} slots, which cuts {cut:.2%} of the activations of this SAE ({sae.rule})."
                )
            diagnosis = _diagnosis(plan, quality, extraction, sae, opened, assembled.rows, say)
            concepts, bridges, untrained = _score(work, plan, config, sae, assembled, progress)
            if until == "score":
                return work
            with StoreWriter(plan.cache, target.parent.name, extraction.corpus.name, config) as writer:
                _remove_abandoned(target)
                writer.concepts(concepts)
                writer.bridges(bridges)
                if untrained is not None:
                    writer.table(UNTRAINED, untrained)
                writer.array("neighbours.npy", neighbour_table(sae))
                writer.array("codes/indices.npy", assembled.codes.indices)
                writer.array("codes/values.npy", assembled.codes.values)
                _postings(writer, assembled.codes)
                _embeddings(writer, work, plan, extraction)
                writer.samples(assembled.samples.assign(thumb=_thumbs(writer, extraction)))
                tokens = write_token_views(
                    writer, extraction, sae, opened, assembled.rows, count=plan.token_views, progress=progress
                )
                tasks = write_tasks(writer, assembled.tasks)
                facts = _facts(plan, extraction, assembled, quality, diagnosis, tokens)
                write_results(writer, facts, tasks, progress, device=cuda_or_cpu(plan.model.device))
                path = writer.publish(facts, tasks)
        shutil.rmtree(work, ignore_errors=True)
    say(f"Published {path}")
    return path


def _stands(target: Path, say: Say) -> bool:
    """Is the store built, and current? Older tables are brought up to date here; a store that cannot be opened is built
    again, unless a newer version made it."""
    if not (target / MANIFEST).is_file():
        return False
    try:
        manifest = open_base(target).manifest
    except NewerStore:
        raise
    except StoreError as error:
        say(f"What stands at {target} is replaced: {error}")
        return False
    try:
        older = bool(open_store(target).older)
    except StoreError as error:
        say(str(error))
        older = True
    if older:
        rescore(target, say=say)
    say(f"This configuration is already built: {target} ({manifest.created[:10]})")
    return True


def versions() -> dict[str, str]:
    """What a number may depend on beside the config: recorded as a fact."""
    names = ("torch", "transformers", "numpy", "scipy", "pillow", "numba")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def git_commit() -> str:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except OSError:  # git is not installed: the fact stays empty
        return ""
    return done.stdout.strip()


def _assemble(work: Path, plan: BuildPlan, extraction: Extraction, sae: Sae) -> Assembled:
    """Embeddings are written once, shard by shard, and read back as a map: codes are made of the vectors as stored, so
    encode(sae, store.embeddings()) gives the store's codes again."""
    path, done = work / "mean.npy", work / "codes.npz"
    if not path.is_file():
        shape = (len(extraction.kept), extraction.width)
        blocks = (block for block, _ in extraction.blocks("mean", plan.embedding_dtype))
        save_blocks(path, blocks, shape, plan.embedding_dtype)
    vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    if done.is_file():
        with np.load(done, allow_pickle=False) as file:
            codes = Codes(file["indices"], file["values"], sae.n_concepts)
    else:
        codes = encode(sae, vectors)  # on the CPU, so that a store does not depend on where it was built
        np.savez(work / ".codes.npz", indices=codes.indices, values=codes.values)
        os.replace(work / ".codes.npz", done)
    samples, tasks = _sample_table(extraction), stored_tasks(extraction)
    modality = samples["modality"].to_numpy()
    if extraction.corpus.has_pairs:
        rows = caption_pairs(samples["pair_id"].to_numpy(), modality)
    else:
        rows = retrieval_pairs(modality, [(task.name, task.queries, task.candidates, task.qrels) for task in tasks])
    return Assembled(samples, vectors, codes, rows, tasks)


def _sample_table(extraction: Extraction) -> pd.DataFrame:
    """Shard by shard: millions of rows are then held as columns, never as objects."""
    job, corpus = extraction.job, extraction.corpus
    borders = np.searchsorted(extraction.kept, [job.span(shard).start for shard in range(len(job))])
    parts = []
    for shard, kept in enumerate(np.split(extraction.kept, borders[1:])):
        span = job.span(shard)
        here = corpus.samples[span]
        parts.append(_columns([here[row - span.start] for row in kept.tolist()]))
    table = pd.concat(parts, ignore_index=True)
    table.loc[
        np.isin(extraction.kept, extraction.lost), "pair_id"
    ] = -1  # captions that another task keeps: retrieval only
    return table


def _columns(samples: list) -> pd.DataFrame:
    names = [name for name in SAMPLE_COLUMNS if name != "thumb"]
    columns: dict[str, Any] = {name: [getattr(sample, name) for sample in samples] for name in names}
    frame = pd.DataFrame({**columns, "thumb": ""}, index=range(len(samples)))
    return frame.astype({"pair_id": np.int32, **{name: "str" for name in SAMPLE_COLUMNS if name != "pair_id"}})


def _diagnosis(
    plan: BuildPlan,
    quality: dict[str, Quality],
    extraction: Extraction,
    sae: Sae,
    opened: OpenBackbone,
    rows: PairRows,
    say: Say,
) -> Diagnosis | None:
    """Only where reconstruction is poor: what probably differs, from a few samples read in other ways."""
    if not is_poor(quality):
        return None
    say(f"The SAE reconstructs these embeddings poorly: R² {quality['all'].r2_per_dimension:.2f}, below {R2_WARN}.")
    if plan.sae.sae == "train" and plan.sae.unit == "pooled":
        found = TRAINED_HERE
    elif extraction.config["backbone"]["model_type"] == IMPORTED:
        found = Diagnosis(
            (), "It was probably trained on other vectors than these: choose another, or train one (--sae train)."
        )
    else:
        found = diagnose(opened.get(), sae, extraction.samples(choose_rows(rows, TRIED)))
    say(found.sentence)
    return found


def _score(
    work: Path, plan: BuildPlan, config: Config, sae: Sae, assembled: Assembled, progress: Progress
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame | None]:
    """(concepts, bridges, scores of the untrained control where there is one), kept in the work folder."""
    names = ("concepts.parquet", "bridges.parquet", UNTRAINED)
    if all((work / name).is_file() for name in names[:2]):
        concepts, bridges = (pd.read_parquet(work / name) for name in names[:2])
        return concepts, bridges, pd.read_parquet(work / UNTRAINED) if (work / UNTRAINED).is_file() else None
    from analysis.concepts.map2d import concept_map

    samples, rows = assembled.samples, assembled.rows
    inputs = ScoreInputs(
        assembled.codes,
        sae.dictionary,
        rows,
        plan.weighting,
        evidence_of(samples["text"].tolist(), rows),
        assembled.vectors,
        second_backbone(plan.cache, config, samples["sample_id"].to_numpy()),
    )
    progress("score", 0, 3)
    concepts, bridges = score_tables(inputs)
    progress("score", 1, 3)
    start = load_untrained(plan.cache / config["sae"]["path"])
    control = None if start is None else untrained_table(inputs, start, assembled.vectors)
    progress("score", 2, 3)
    position = concept_map(sae.dictionary, alive=concepts["energy"].to_numpy() > 0, seed=plan.sae.seed)
    concepts["map_x"], concepts["map_y"] = position[:, 0], position[:, 1]
    progress("score", 3, 3)
    for name, table in zip(names[::-1], (control, bridges, concepts), strict=True):
        if table is not None:
            partial = work / f".{name}.part"
            table.to_parquet(partial, index=False)
            os.replace(partial, work / name)
    return concepts, bridges, control


def _remove_abandoned(target: Path) -> None:
    """Temporary folders of this store that a killed build left. Ours is the newest; the lock keeps others out."""
    folders = sorted(target.parent.glob(f".{target.name}.*.tmp"), key=lambda path: path.stat().st_mtime_ns)
    for folder in folders[:-1]:
        shutil.rmtree(folder, ignore_errors=True)


def _postings(writer: StoreWriter, codes: Codes) -> None:
    from analysis.concepts.postings import build_postings

    postings = build_postings(codes)
    writer.array("postings/offsets.npy", postings.offsets)
    writer.array("postings/rows.npy", postings.sample_rows)
    writer.array("postings/values.npy", postings.values)


def _embeddings(writer: StoreWriter, work: Path, plan: BuildPlan, extraction: Extraction) -> None:
    link_or_copy(work / "mean.npy", writer.path("embeddings/mean.npy"))
    for variant in extraction.job.variants:
        if variant == "mean":
            continue
        dtype = plan.embedding_dtype
        defined = np.concatenate([where for _, where in extraction.blocks(variant, dtype)])
        if not defined.any():
            continue
        blocks = (block[where] for block, where in extraction.blocks(variant, dtype))
        shape = (int(defined.sum()), extraction.width)
        save_blocks(writer.path(f"embeddings/{variant}.npy"), blocks, shape, dtype)
        if not defined.all():
            writer.array(f"embeddings/{variant}.rows.npy", np.flatnonzero(defined).astype(np.int32))


def _thumbs(writer: StoreWriter, extraction: Extraction) -> list[str]:
    """Write each different picture once; samples that share a picture share its file."""
    names: list[str] = []
    for shard in extraction.shards(variants=()):
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


def _facts(
    plan: BuildPlan,
    extraction: Extraction,
    assembled: Assembled,
    quality: dict[str, Quality],
    diagnosis: Diagnosis | None,
    tokens: dict[str, Any],
) -> dict[str, Any]:
    corpus, rows = extraction.corpus, assembled.rows
    return {
        "demo": corpus.name == "emoji-scenes" or bool(extraction.config["backbone"].get("demo")),
        "counts": {
            "samples": len(assembled.samples),
            "images": len(rows.images),
            "captions": len(rows.texts),
            "image_texts": len(rows.both),
            "pairs": len(rows.pair_image),
        },
        "pairs_from": rows.source,
        "quality": as_facts(quality),
        "diagnosis": diagnosis.as_facts() if diagnosis else None,
        "tokens": tokens,
        "defects": corpus.defects,
        "notes": corpus.notes,
        "skipped": {
            "count": len(extraction.skipped),
            "first": next(iter(extraction.skipped.items()), None),
            "reasons": extraction.skipped,
            "captions": len(extraction.lost),
        },
        "truncated_texts": len(extraction.truncated),
        "seconds_extract": round(extraction.seconds, 1),
        "device": plan.model.device,
        "versions": versions(),
        "commit": git_commit(),
    }
