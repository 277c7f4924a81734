"""Extraction in shards: one shard of samples -> one file that exists completely or not at all. The local engine loops
over shards, the cluster engine maps over them, and both call `extract_shard`; what exists is never computed again."""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.build.corpus import Corpus
from analysis.build.files import remove_partial, write_atomically
from analysis.build.plan import ModelPlan
from analysis.data.pictures import guarded, thumbnail_webp
from analysis.data.samples import Sample
from analysis.errors import AnalysisError, DataError
from analysis.models.backbones import Backbone, load_backbone

Progress = Callable[[int, int], None]  # samples done, samples in all


@dataclass(frozen=True)
class ShardJob:
    """Where the shards of one extraction lie and how its samples are cut. `folder` is named after everything that
    changes an embedding, so a resumed run never mixes two configurations."""

    folder: Path
    n_samples: int
    shard_size: int
    variants: tuple[str, ...]
    thumb_side: int
    thumb_quality: int

    def __len__(self) -> int:
        return -(-self.n_samples // self.shard_size)

    def span(self, shard: int) -> slice:
        return slice(shard * self.shard_size, min((shard + 1) * self.shard_size, self.n_samples))

    def path(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:05d}.npz"

    def missing(self) -> list[int]:
        return [shard for shard in range(len(self)) if not self.path(shard).is_file()]


def open_backbone(plan: ModelPlan) -> Backbone:
    return load_backbone(
        plan.backbone,
        device=plan.device,
        dtype=plan.dtype,
        revision=plan.revision,
        tap=plan.tap,
        fusion=plan.fusion,
        dummy_image=plan.dummy_image,
        weights=plan.weights,
    )


def run_local(
    job: ShardJob, corpus: Corpus, backbone: Backbone, *, batch_tokens: int | None, progress: Progress
) -> None:
    """Compute the shards that are missing, in order. Ctrl-C or a kill loses at most the shard under way."""
    remove_partial(job.folder)
    missing = job.missing()
    done = job.n_samples - sum(_length(job.span(shard)) for shard in missing)
    progress(done, job.n_samples)
    for shard in missing:
        extract_shard(job, shard, corpus.samples[job.span(shard)], backbone, batch_tokens=batch_tokens)
        done += _length(job.span(shard))
        progress(done, job.n_samples)


def extract_shard(
    job: ShardJob, shard: int, samples: Sequence[Sample], backbone: Backbone, *, batch_tokens: int | None = None
) -> Path:
    """Embed one shard, make its thumbnails and write both in one file, atomically.

    A picture that cannot be decoded leaves a row with ok = False and its reason: counted later, never skipped silently.
    """
    started = time.perf_counter()
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:  # beside the model
        making = pool.map(lambda sample: _thumb(sample, job), samples)
        embedded = backbone.embed(samples, variants=job.variants, on_error="skip", batch_tokens=batch_tokens)
        made = list(making)
    ok = np.ones(len(samples), bool)
    ok[list(embedded.skipped)] = False
    lost = {place: thumb for place, thumb in enumerate(made) if ok[place] and isinstance(thumb, str)}
    ok[list(lost)] = False  # its picture went away between being embedded and being read again
    thumbs = [thumb if ok[place] and isinstance(thumb, bytes) else b"" for place, thumb in enumerate(made)]
    arrays: dict[str, np.ndarray] = {"ok": ok}
    for variant in job.variants:
        arrays[f"vector.{variant}"] = embedded.vectors[variant].astype(np.float32)
        arrays[f"defined.{variant}"] = embedded.defined[variant]
    arrays["thumb_bytes"] = np.frombuffer(b"".join(thumbs), np.uint8)
    arrays["thumb_ends"] = np.cumsum([len(thumb) for thumb in thumbs], dtype=np.int64)
    notes = {
        "skipped": {str(place): reason for place, reason in {**embedded.skipped, **lost}.items()},
        "truncated": list(embedded.truncated),
        "scaled": [place for place, sample in enumerate(samples) if ok[place] and _is_scaled(sample)],
        "seconds": round(time.perf_counter() - started, 3),
    }
    arrays["notes"] = np.frombuffer(json.dumps(notes).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_atomically(job.path(shard), buffer.getvalue())
    return job.path(shard)


@dataclass(frozen=True)
class Shard:
    """One shard as read back. `thumbs[i]` is empty bytes for a sample without a picture."""

    span: slice
    ok: np.ndarray
    vectors: dict[str, np.ndarray]
    defined: dict[str, np.ndarray]
    thumbs: list[bytes]
    skipped: dict[int, str]
    truncated: list[int]
    scaled: list[int]  # pictures that our own guard of memory made smaller
    seconds: float


def read_shards(job: ShardJob, *, variants: Sequence[str] | None = None, thumbs: bool = True) -> Iterator[Shard]:
    """Every shard in order, with the vectors of some variants (default: all). Raises AnalysisError when one is missing or
    damaged."""
    wanted = job.variants if variants is None else variants
    for shard in range(len(job)):
        path = job.path(shard)
        try:
            with np.load(path, allow_pickle=False) as file:
                notes = json.loads(file["notes"].tobytes())
                ends = file["thumb_ends"]
                blob = file["thumb_bytes"].tobytes() if thumbs else b""
                starts = np.concatenate([[0], ends[:-1]])
                yield Shard(
                    job.span(shard),
                    file["ok"],
                    {v: file[f"vector.{v}"] for v in wanted},
                    {v: file[f"defined.{v}"] for v in wanted},
                    [blob[a:b] for a, b in zip(starts, ends, strict=True)] if thumbs else [],
                    {int(k): v for k, v in notes["skipped"].items()},
                    notes["truncated"],
                    notes["scaled"],
                    notes["seconds"],
                )
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise AnalysisError(
                f"Shard {path.name} is missing or damaged ({error}); delete it and run the command again to resume."
            ) from error


def _thumb(sample: Sample, job: ShardJob) -> bytes | str:
    """A picture's thumbnail, empty without a picture; the reason where it cannot be decoded (any more)."""
    picture = sample.picture
    if picture is None or (picture.path is None and picture.data is None and picture.read is None):
        return b""  # a text, or an imported vector of a picture that nobody has
    try:
        return thumbnail_webp(picture.load(), side=job.thumb_side, quality=job.thumb_quality)
    except DataError as error:
        return str(error)


def _is_scaled(sample: Sample) -> bool:
    if sample.picture is None:
        return False
    try:
        size = sample.picture.check()
    except DataError:  # it went away after it was embedded
        return False
    return guarded(*size) != size


def _length(span: slice) -> int:
    return span.stop - span.start
