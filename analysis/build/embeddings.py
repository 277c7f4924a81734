"""A store from embeddings that exist already: no backbone, everything else as in a build."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from analysis.build.assemble import assemble_store
from analysis.build.build import store_config
from analysis.build.corpus import Corpus, TaskRows
from analysis.build.dictionary import check_width, existing_sae, obtain_sae
from analysis.build.extraction import Extraction, Progress, Say, read_back
from analysis.build.files import only_one, write_atomically
from analysis.build.plan import BuildPlan, Config, DataPlan, ModelPlan, SaePlan, slug
from analysis.build.shards import ShardJob, run_local
from analysis.data.defects import Defects
from analysis.data.disk import fingerprint
from analysis.data.samples import Picture, RetrievalSet, Sample
from analysis.data.vectors import Block, Vectors, load_list, load_vectors
from analysis.errors import AnalysisError, DataError
from analysis.models.results import Embeddings
from analysis.models.specs import BACKBONES
from analysis.store.schema import IMPORTED, store_key


@dataclass(frozen=True)
class EmbeddingFiles:
    """Files of vectors and what says what they are. modality: of each matrix, where its name does not say; ids, captions,
    files: lists, one entry a vector (captions: a text, files: an image); pictures: the folder of those files; pairs:
    lines of "image id, text id", else images and texts belong together by their order."""

    vectors: Sequence[Path]
    modality: Sequence[str] = ()
    ids: Path | None = None
    captions: Path | None = None
    files: Path | None = None
    pictures: Path | None = None
    pairs: Path | None = None


@dataclass(frozen=True)
class _Row:
    """One vector and what is known of it."""

    identifier: str
    modality: str
    text: str
    file: str


def import_embeddings(
    source: EmbeddingFiles,
    *,
    name: str,
    dataset: str,
    sae: SaePlan,
    cache: Path,
    contrastive: bool = False,
    say: Say = print,
    progress: Progress | None = None,
) -> Path:
    """Build the store of some vectors and return its folder. name: of what made them, dataset: of what they are of. Vectors
    that are zero or not finite are left out and counted. Raises DataError for files that do not fit together."""
    progress = progress or (lambda step, done, total: None)
    if slug(name) != name or name in BACKBONES:
        known = "is the name of a backbone that pages would load" if name in BACKBONES else "is no plain folder name"
        raise AnalysisError(f"{name!r} {known}; expected a name of your own, in lower case, for what made the vectors.")
    data = DataPlan(dataset)
    plan = BuildPlan(
        data, ModelPlan(name, prompts="none", variants=("mean",)), replace(sae, data=data), cache=cache, token_views=0
    )
    given = existing_sae(plan, name, say=say)
    loaded = load_vectors(source.vectors)
    vectors = loaded.vectors
    corpus = _corpus(_rows(loaded, source), vectors, source, slug(dataset))
    for line in (*corpus.defects, *corpus.notes):
        say(f"Data: {line}")
    if given is not None:
        check_width(*given, vectors.shape[1], name)
    extraction = _extract(plan, corpus, vectors, name, contrastive, say, progress)
    nothing: Any = None  # the backbone of a build; an import has none, and asks for none
    lock = cache / "work" / f"lock-sae-{store_key({'of': extraction.config, 'sae': repr(sae)})}"
    with only_one(lock, "preparing the SAE"):
        found, _, sae_config = obtain_sae(plan, extraction, nothing, given=given, say=say, progress=progress)
    config = store_config(plan, extraction, sae_config)
    return assemble_store(plan, config, extraction, found, nothing, until="publish", say=say, progress=progress)


@dataclass(frozen=True)
class _Stored:
    """Stands where a build has its backbone: a sample's vector is looked up, not computed."""

    vectors: np.ndarray
    row_of: dict[str, int]

    def embed(self, samples: Sequence[Sample], *, variants: Sequence[str], **_: Any) -> Embeddings:
        rows = np.asarray(self.vectors[[self.row_of[sample.sample_id] for sample in samples]], np.float32)
        finite = np.isfinite(rows.sum(axis=1))
        skipped = {int(place): "its vector holds NaN or infinity" for place in np.flatnonzero(~finite)}
        empty = np.count_nonzero(rows, axis=1) == 0
        skipped |= {int(place): "its vector is zero, which has no direction" for place in np.flatnonzero(empty)}
        defined = np.ones(len(rows), bool)
        counts = np.zeros((len(rows), 5), np.int32)
        return Embeddings(dict.fromkeys(variants, rows), dict.fromkeys(variants, defined), counts, skipped)


def _extract(
    plan: BuildPlan, corpus: Corpus, vectors: np.ndarray, name: str, contrastive: bool, say: Say, progress: Progress
) -> Extraction:
    """Shards as a build writes them: thumbnails are made and interrupted imports resumed in the same way."""
    backbone: Config = {
        "key": name, "model": name, "model_type": IMPORTED, "revision": corpus.revision, "tap": IMPORTED,
        "dtype": str(vectors.dtype), "width": int(vectors.shape[1]), "contrastive": contrastive, "fusion": None,
        "dummy_image": None, "demo": False,
    }  # fmt: skip
    config: Config = {"backbone": backbone, "prompts": "none", "data": corpus.config(plan.data), "variants": ["mean"]}
    folder = plan.cache / "work" / f"embeddings-{store_key(config)}"
    job = ShardJob(folder, len(corpus.samples), plan.shard_size, ("mean",), plan.thumb_side, plan.thumb_quality)
    stored: Any = _Stored(vectors, {sample.sample_id: row for row, sample in enumerate(corpus.samples)})
    with only_one(folder, "importing"):
        write_atomically(folder / "config.json", json.dumps(config, indent=1, sort_keys=True).encode())
        run_local(job, corpus, stored, batch_tokens=None, progress=lambda done, total: progress("import", done, total))
    return read_back(corpus, job, config, say)


def _rows(loaded: Vectors, source: EmbeddingFiles) -> list[_Row]:
    blocks = list(loaded.blocks)
    if source.modality:
        if len(source.modality) != len(blocks):
            raise DataError(
                f"{len(source.modality)} modalities were given for {len(blocks)} matrices; expected one each."
            )
        blocks = [replace(block, modality=given) for block, given in zip(blocks, source.modality, strict=True)]
    total = {kind: sum(len(b.vectors) for b in blocks if b.modality == kind) for kind in ("image", "text")}
    for block in blocks:
        if block.modality not in total:
            raise DataError(
                f"Nothing says whether the {len(block.vectors)} vectors of a matrix are of images or of texts: call the "
                "file or array so, or give --modality image or text, one for each matrix."
            )
    ids = _listed(source.ids, sum(total.values()), "vectors")
    captions, files = _listed(source.captions, total["text"], "texts"), _listed(source.files, total["image"], "images")
    rows: list[_Row] = []
    seen = {"image": 0, "text": 0}
    for block in blocks:
        for place in range(len(block.vectors)):
            nth = seen[block.modality]
            seen[block.modality] += 1
            own = ids[len(rows)] if ids else block.ids[place] if block.ids else f"{nth:06d}"
            rows.append(_Row(own, block.modality, *_beside(block, place, nth, captions, files)))
    return rows


def _beside(block: Block, place: int, nth: int, captions: list[str] | None, files: list[str] | None) -> tuple[str, str]:
    """(text, file) of one vector; a text without words is named by its number, since no page can show nothing."""
    if block.modality == "text":
        text = captions[nth] if captions else block.texts[place] if block.texts else ""
        return text.strip() or f"text {nth}", ""
    return "", files[nth] if files else block.files[place] if block.files else ""


def _listed(path: Path | None, count: int, what: str) -> list[str] | None:
    if path is None:
        return None
    found = load_list(path)
    if len(found) != count:
        raise DataError(f"{path.name} has {len(found)} entries for {count} {what}; expected one each, in their order.")
    return found


def _corpus(rows: list[_Row], vectors: np.ndarray, source: EmbeddingFiles, name: str) -> Corpus:
    defects = Defects()
    images = [place for place, row in enumerate(rows) if row.modality == "image"]
    texts = [place for place, row in enumerate(rows) if row.modality == "text"]
    image_of, note = _pairing(rows, images, texts, source, defects)
    # What has no partner is a pair of its own: its concepts count, its bridges do not exist.
    samples = [_sample(row, image_of.get(at, at), source.pictures, defects) for at, row in enumerate(rows)]
    if len({sample.sample_id for sample in samples}) < len(samples):
        raise DataError("Two vectors of one modality have the same id; expected every id once.")
    content = np.ascontiguousarray(vectors).tobytes()
    shown = [str(sample.picture.path is not None) for sample in samples if sample.picture]
    revision = fingerprint([content, repr(vectors.shape), *map(repr, rows), repr(sorted(image_of.items())), *shown])
    tasks = _tasks(samples, images, texts, image_of, name, revision, defects) if image_of else {}
    return Corpus(name, "", revision, samples, tasks, list(defects.lines()), [note] if note else [])


def _pairing(
    rows: list[_Row], images: list[int], texts: list[int], source: EmbeddingFiles, defects: Defects
) -> tuple[dict[int, int], str]:
    """(row of a text -> row of its image, what was assumed)."""
    if not images or not texts:
        return {}, ""
    if source.pairs is not None:
        return _listed_pairs(rows, source.pairs, defects), ""
    each, rest = divmod(len(texts), len(images))
    if rest or not each:
        return {}, (
            f"{len(images)} images and {len(texts)} texts do not go together by order, so nothing is paired: give --pairs."
        )
    note = f"Paired by order: {each} {'text' if each == 1 else 'texts'} an image; --pairs says it otherwise."
    return {text: images[number // each] for number, text in enumerate(texts)}, note


def _listed_pairs(rows: list[_Row], path: Path, defects: Defects) -> dict[int, int]:
    place = {(row.modality, row.identifier): at for at, row in enumerate(rows)}
    found: dict[int, int] = {}
    for number, line in enumerate(load_list(path), 1):
        if not line.strip():
            continue
        image_id, _, text_id = line.replace("\t", ",").partition(",")
        image, text = place.get(("image", image_id.strip())), place.get(("text", text_id.strip()))
        if image is None or text is None:
            defects.add("pair of an unknown id", f"{path.name} line {number} ({line[:60]})")
        elif text in found:
            defects.add("second image of a text", f"{path.name} line {number} ({line[:60]})")
        else:
            found[text] = image
    if not found:
        raise DataError(f"{path.name} names no pair of ids that are there; expected lines of image id, text id.")
    return found


def _sample(row: _Row, pair: int, pictures: Path | None, defects: Defects) -> Sample:
    identifier = f"{row.modality}/{row.identifier}"
    if row.modality == "text":
        return Sample(identifier, "text", row.text, pair_id=pair)
    path = pictures / row.file if pictures is not None and row.file else None
    if pictures is not None and (path is None or not path.is_file()):
        defects.add("picture missing, its vector is kept", row.file or row.identifier)
        path = None
    picture = Picture(path=path, name=row.file or row.identifier)
    return Sample(identifier, "image", picture=picture, pair_id=pair, source=row.file)


def _tasks(
    samples: list[Sample],
    images: list[int],
    texts: list[int],
    image_of: dict[int, int],
    name: str,
    revision: str,
    defects: Defects,
) -> dict[str, TaskRows]:
    """i2t and t2i: queries are what has a partner, candidates all of the other modality."""
    image_at, text_at = ({row: place for place, row in enumerate(side)} for side in (images, texts))
    pairs = np.array([(image_at[image], text_at[text]) for text, image in image_of.items()], np.int64)
    whole = sp.csr_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(len(images), len(texts)))
    found = {}
    for code, queries, candidates, qrels in (
        ("i2t", images, texts, whole),
        ("t2i", texts, images, sp.csr_array(whole.T)),
    ):
        asked = np.flatnonzero(np.diff(qrels.indptr) > 0)
        rows = [queries[place] for place in asked.tolist()]
        source = RetrievalSet(
            code, [samples[r] for r in rows], [samples[r] for r in candidates], qrels[asked], name,
            defects=defects, revision=revision,
        )  # fmt: skip
        found[code] = TaskRows(source, np.array(rows, np.int32), np.array(candidates, np.int32), {})
    return found
