"""What a build will download, need and write, before a model is loaded: `build --dry-run`. What cannot be known stands as
unknown, with the reason."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from analysis.build.corpus import load_corpus
from analysis.build.dictionary import sae_size
from analysis.build.plan import ALL_VARIANTS, BuildPlan
from analysis.errors import AnalysisError, BackboneError, DataError
from analysis.models.backbones import estimate_memory, open_backbone
from analysis.models.devices import DTYPES, choose_device, choose_dtype, free_memory
from analysis.models.folders import refuse_quantised, refuse_unreadable
from analysis.models.hub import HubModel, ask_hub, cached_folder
from analysis.models.specs import BackboneSpec, find_spec, slug

_THUMBNAIL = 12_000  # bytes of a WebP of 256 pixels, as `python -m analysis.build.rates` measures them, rounded up


@dataclass(frozen=True)
class Forecast:
    """Each field a number, or None where it is unknown; `reasons` says why, by field. download, memory, free_memory, disk,
    free_disk: bytes; seconds: of embedding alone; samples: what is embedded."""

    download: int | None
    memory: int | None
    free_memory: int | None
    samples: int | None
    seconds: float | None
    disk: int | None
    free_disk: int
    reasons: dict[str, str]

    def lines(self) -> list[str]:
        """One line a quantity, for a terminal."""

        def said(field: str, value: float | None, text: str) -> str:
            return f"unknown: {self.reasons[field]}" if value is None else text

        free = "" if self.free_memory is None else f" of {_size(self.free_memory)} free"
        return [
            "download  " + said("download", self.download, _size(self.download or 0)),
            "memory    "
            + said("memory", self.memory, f"{_size(self.memory or 0)} for the weights{free}, batches on top"),
            "samples   " + said("samples", self.samples, f"{self.samples or 0:,}"),
            "time      " + said("seconds", self.seconds, f"about {_duration(self.seconds or 0)} to embed"),
            "disk      " + said("disk", self.disk, f"about {_size(self.disk or 0)} of {_size(self.free_disk)} free"),
        ]


def forecast(plan: BuildPlan) -> Forecast:
    """The forecast of a plan. Reads config.json, headers of safetensors, the hub's description of a model and the tables of
    the data set, no weights and no picture. Raises what a build would refuse: an unknown or unreadable model, data that are
    no data set."""
    spec, reasons = find_spec(plan.model.backbone), dict[str, str]()
    device = choose_device(plan.model.device)
    dtype = str(choose_dtype(plan.model.dtype, spec.dtype, device)).removeprefix("torch.")
    download, memory, known = _model(plan, spec, dtype, reasons)
    samples, pictures = _data(plan, reasons)
    seconds = None
    if samples is not None:
        rate = _measured_rate(plan.cache, slug(spec.key), known.width, dtype)
        seconds = None if rate is None else rate * samples
    reasons.setdefault("seconds", reasons.get("samples", _NO_RATE))
    disk = None
    if samples is None or known.width is None:
        reasons["disk"] = reasons.get("samples", "the width of the model is not known")
    else:
        disk = _disk(plan, known, known.width, samples, pictures or 0)
    return Forecast(download, memory, free_memory(device), samples, seconds, disk, _free_disk(plan.cache), reasons)


_NO_RATE = "this backbone has not embedded anything in this cache yet; build with --limit 100 first to measure it"


def _model(
    plan: BuildPlan, spec: BackboneSpec, dtype: str, reasons: dict[str, str]
) -> tuple[int | None, int | None, BackboneSpec]:
    """Bytes to fetch, bytes in memory, and the row with what the config tells."""
    wanted = {"revision": plan.model.revision, "weights": plan.model.weights}
    hub: HubModel | None = None
    try:
        opened = open_backbone(plan.model.backbone, tap=plan.model.tap, **wanted)
        known, checkpoint = opened.spec, opened.checkpoint
        refuse_quantised(checkpoint.config, checkpoint.source)
        if checkpoint.folder is not None:
            refuse_unreadable(checkpoint.folder, checkpoint.config)
        if checkpoint.folder is not None or cached_folder(checkpoint.source, checkpoint.revision) is not None:
            download: int | None = 0
        else:
            hub = ask_hub(checkpoint)
            download = sum(hub.missing.values())
    except BackboneError as error:
        if plan.model.weights is not None or spec.is_folder or "hub" not in str(error):
            raise
        known, download, reasons["download"] = spec, None, str(error)  # offline: the row still says how large it is
    try:
        memory: int | None = estimate_memory(plan.model.backbone, dtype, **wanted)
    except BackboneError as error:
        memory = None if hub is None else hub.parameters * DTYPES[dtype]
        reasons["memory"] = str(error)
    return download, memory, known


def _data(plan: BuildPlan, reasons: dict[str, str]) -> tuple[int | None, int | None]:
    """How many samples are embedded, and how many of them have a picture."""
    try:
        corpus = load_corpus(plan.data, plan.model.prompts, cache=plan.cache)
    except DataError as error:
        reasons["samples"] = str(error)
        return None, None
    pictures = sum(sample.picture is not None for sample in corpus.samples)
    return len(corpus.samples), pictures


def _disk(plan: BuildPlan, spec: BackboneSpec, width: int, samples: int, pictures: int) -> int:
    """Embeddings in the work folder (float32) and in the store, codes with their postings, thumbnails twice, the SAE."""
    n_variants = 1 if spec.one_vector else len(plan.model.variants or ALL_VARIANTS)
    n_concepts, top_k = sae_size(plan.sae, spec, width)
    stored = 2 if plan.embedding_dtype == "float16" else 4
    embeddings = samples * width * n_variants * (4 + stored)
    codes = samples * top_k * (8 + 8)
    sae = n_concepts * width * 4 * 2 if plan.sae.sae == "train" else 0
    return embeddings + codes + pictures * _THUMBNAIL * 2 + sae


def _measured_rate(cache: Path, key: str, width: int | None, dtype: str) -> float | None:
    """Seconds a sample of the newest store that this backbone made here in this number format; None without one."""
    rates: list[tuple[str, float]] = []
    for path in cache.glob(f"{key}/*/manifest.json"):
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            backbone, facts = manifest["config"]["backbone"], manifest["facts"]
            if (backbone["key"], backbone["width"], backbone["dtype"]) == (key, width, dtype) and facts[
                "seconds_extract"
            ]:
                rates.append((manifest["created"], facts["seconds_extract"] / facts["counts"]["samples"]))
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
            continue  # a damaged store is no measurement; `verify` names it
    return max(rates)[1] if rates else None


def _free_disk(cache: Path) -> int:
    home = next((folder for folder in (cache, *cache.resolve().parents) if folder.is_dir()), None)
    if home is None:
        raise AnalysisError(f"There is no folder for the cache {cache}; give one with --cache.")
    return shutil.disk_usage(home).free


def _size(n: float) -> str:
    """1234567 -> "1.2 MB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
