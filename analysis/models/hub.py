"""Models on the hub: which one it is, what loading it will fetch, the fetching itself with bytes told as they arrive, and
plain words when it cannot be had."""

from __future__ import annotations

import errno
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.errors import BackboneError
from analysis.models.devices import DTYPES
from analysis.models.weights import Checkpoint, first_line

Told = Callable[[int, int], None]  # bytes that are here, bytes in all

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SETTINGS = (".json", ".txt", ".model", ".jinja")  # config, processor, tokenizer, chat template
# As transformers looks for weights: the first of these that a repository has. An index names its shards.
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
# Without one of each, a cached copy is not whole.
_NEEDED = (("tokenizer.json", "tokenizer_config.json"), ("preprocessor_config.json", "processor_config.json"))
_PATIENCE = 10.0  # seconds for one answer of the hub
MAX_CONFIG = 2**20  # bytes of a config.json; the largest of a supported architecture has some thousand
MAX_SETTINGS = 2**28  # bytes of all settings, tokenizer included
MAX_FILES = 4096  # of a repository


@dataclass(frozen=True)
class HubModel:
    """What the hub says of a model. sizes: bytes of every file that loading reads; weights: those that hold weights."""

    checkpoint: Checkpoint
    sizes: dict[str, int]
    weights: tuple[str, ...]

    @property
    def total(self) -> int:
        return sum(self.sizes.values())

    @property
    def missing(self) -> dict[str, int]:
        """The files, with their bytes, that the local cache does not hold."""
        from huggingface_hub import try_to_load_from_cache

        hub_id, commit = self.checkpoint.source, self.checkpoint.revision
        return {
            name: size
            for name, size in self.sizes.items()
            if not isinstance(try_to_load_from_cache(hub_id, name, revision=commit), str)
        }

    @property
    def parameters(self) -> int:
        """About how many numbers the weights are: bytes over the size of the format that the config names."""
        config = self.checkpoint.config
        parts = (config, *(part for part in config.values() if isinstance(part, dict)))
        stored = next((part[key] for part in parts for key in ("dtype", "torch_dtype") if part.get(key)), "float32")
        return sum(self.sizes[name] for name in self.weights) // DTYPES.get(stored, 4)


def open_hub(hub_id: str, revision: str) -> Checkpoint:
    """The checkpoint of a hub repository; only its config.json is fetched. A pinned commit that is in the local cache
    is used without asking the network, and so is a branch when nobody answers. Raises BackboneError with the next step
    when it cannot be had."""
    from huggingface_hub import hf_hub_download

    path = _cached_config(hub_id, revision) if _COMMIT.fullmatch(revision) else None
    if path is None:
        try:
            info = _info(hub_id, revision)  # the client would try half a minute where this gives up at once
            _check_sizes(info, hub_id)
            path = Path(hf_hub_download(hub_id, "config.json", revision=revision))
        except BackboneError:
            raise
        except Exception as error:  # the hub client raises a dozen classes; all end in one sentence
            path = _cached_config(hub_id, revision) if _unreachable(error) else None
            if path is None:
                raise explain(error, hub_id, revision) from error
    commit = path.parent.name  # cache layout: snapshots/<commit>/config.json
    return Checkpoint(hub_id, commit, json.loads(path.read_text(encoding="utf-8")))


def ask_hub(checkpoint: Checkpoint) -> HubModel:
    """What loading a checkpoint of the hub reads, by one request. Raises BackboneError when the hub does not answer."""
    hub_id, commit = checkpoint.source, checkpoint.revision
    try:
        info = _info(hub_id, commit)
    except Exception as error:  # as in open_hub
        raise explain(error, hub_id, commit) from error
    _check_sizes(info, hub_id)
    every = {file.rfilename: file.size or 0 for file in info.siblings or [] if "/" not in file.rfilename}
    chosen = next((name for name in _WEIGHTS if name in every), "")
    stem, _, ending = chosen.removesuffix(".index.json").partition(".")
    shard = re.compile(rf"{stem}-\d+-of-\d+\.{ending}" if chosen.endswith(".index.json") else re.escape(chosen))
    weights = tuple(name for name in every if chosen and shard.fullmatch(name))
    settings = {name: size for name, size in every.items() if name.endswith(_SETTINGS)}
    return HubModel(checkpoint, settings | {name: every[name] for name in weights}, weights)


def fetch(checkpoint: Checkpoint, told: Told | None = None) -> Path:
    """The folder of the local hub cache that holds what loading reads, brought there unless it is.

    told(done, total) is called with bytes as they arrive, from several threads; without it the hub client draws its bars
    where there is a terminal. Files that arrived whole are not fetched again. Raises BackboneError with the next step.
    """
    from huggingface_hub import snapshot_download

    hub_id, commit = checkpoint.source, checkpoint.revision
    folder = whole_folder(hub_id, commit)
    if folder is not None:
        return folder
    model = ask_hub(checkpoint)
    total = model.total
    here = total - sum(model.missing.values())
    bar = None if told is None else _bar_class(lambda arrived: told(min(here + arrived, total), total))
    try:
        folder = Path(snapshot_download(hub_id, revision=commit, allow_patterns=list(model.sizes), tqdm_class=bar))
    except Exception as error:  # as in open_hub
        raise explain(error, hub_id, commit) from error
    if told is not None:
        told(total, total)
    return folder


def cached_folder(hub_id: str, revision: str) -> Path | None:
    """The local cache's folder of a hub model whose weights have all been downloaded, else None."""
    from huggingface_hub import try_to_load_from_cache

    for name in _WEIGHTS:
        path = try_to_load_from_cache(hub_id, name, revision=revision)
        if not isinstance(path, str):
            continue
        folder = Path(path).parent
        if not name.endswith(".index.json"):
            return folder
        shards = set(json.loads(Path(path).read_text(encoding="utf-8"))["weight_map"].values())
        if all((folder / shard).exists() for shard in shards):
            return folder
    return None


def whole_folder(hub_id: str, revision: str) -> Path | None:
    """`cached_folder` where processor and tokenizer are there as well: nothing is left to fetch."""
    folder = cached_folder(hub_id, revision)
    whole = folder is not None and all(any((folder / name).exists() for name in names) for names in _NEEDED)
    return folder if whole else None


def loads_offline(hub_id: str, revision: str) -> bool:
    """Whether loading asks nobody: a commit that lies whole in the local cache. (A branch is asked for: it may have moved.)"""
    return bool(_COMMIT.fullmatch(revision)) and whole_folder(hub_id, revision) is not None


def explain(error: BaseException, hub_id: str, revision: str = "main") -> BackboneError:
    """The BackboneError that says why a hub model cannot be had and what to do about it."""
    from huggingface_hub import errors as hub

    chain = list(_chain(error))

    def caused_by(*classes: type[BaseException]) -> bool:
        return any(isinstance(link, classes) for link in chain)

    page = f"https://huggingface.co/{hub_id}"
    download = f"`hf download {hub_id} --revision {revision}`"
    if caused_by(hub.GatedRepoError):
        text = f"{hub_id} is gated: accept its licence at {page}, run `hf auth login`, then try again."
    elif caused_by(hub.RevisionNotFoundError):
        text = f"{hub_id} has no revision {revision!r}; choose one that {page} lists."
    elif caused_by(hub.RepositoryNotFoundError):
        text = (
            f"The hub has no model {hub_id!r} that you may read; check the spelling, or run `hf auth login` if it is "
            "private."
        )
    elif caused_by(hub.EntryNotFoundError) and not caused_by(hub.LocalEntryNotFoundError):
        text = (
            f"{hub_id} has no config.json, as the repositories of LoRA adapters and of llama.cpp's GGUF files have none; "
            "expected a whole model: merge an adapter into its base with peft (merge_and_unload) and give that folder."
        )
    elif caused_by(hub.OfflineModeIsEnabled):
        text = (
            f"{hub_id} is not in the local cache and offline mode is on (HF_HUB_OFFLINE); run {download} on a machine "
            "with network and copy the cache, or give the folder that holds the weights (--weights)."
        )
    elif any(isinstance(link, OSError) and link.errno == errno.ENOSPC for link in chain):
        text = f"The disk filled up while {hub_id} was downloaded; free some space, then run {download}."
    elif caused_by(hub.LocalEntryNotFoundError) or _unreachable(error):
        text = (
            f"{hub_id} is not in the local cache and the hub cannot be reached; run {download} once the network is "
            "back, or give the folder that holds the weights (--weights)."
        )
    else:
        text = f"{hub_id} cannot be loaded ({first_line(error)}); run {download} to fetch it again."
    return BackboneError(text)


def _cached_config(hub_id: str, revision: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(hub_id, "config.json", revision=revision)
    return Path(path) if isinstance(path, str) else None


def _info(hub_id: str, revision: str) -> Any:
    """The hub's description of a repository at a revision: one request, no second try."""
    from huggingface_hub import HfApi

    return HfApi().model_info(hub_id, revision=revision, files_metadata=True, timeout=_PATIENCE)


def _check_sizes(info: Any, hub_id: str) -> None:
    """BackboneError for settings that are larger than those of any model: they are read into memory as a whole."""
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    settings = sum(size for name, size in sizes.items() if "/" not in name and name.endswith(_SETTINGS))
    for what, found, most in (
        ("a config.json of {:,} bytes", sizes.get("config.json", 0), MAX_CONFIG),
        ("settings of {:,} bytes", settings, MAX_SETTINGS),
        ("{:,} files", len(sizes), MAX_FILES),
    ):
        if found > most:
            raise BackboneError(
                f"{hub_id} has {what.format(found)}; expected at most {most:,}: check that this is the model you mean."
            )


def _bar_class(arrived: Callable[[int], None]) -> type:
    """A progress bar that draws nothing and tells the bytes that have arrived. The hub client makes several of a class:
    of received bytes, of written bytes, of files."""
    from tqdm.std import tqdm

    bars: list[Any] = []

    class Bar(tqdm):
        monitor_interval = 0  # no thread that watches bars which nobody sees

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "file": io.StringIO(), "disable": False})
            self._of_bytes = options.get("unit") == "B"
            if self._of_bytes:
                bars.append(self)

        def update(self, n: float | None = 1) -> bool | None:
            drawn = super().update(n)
            if self._of_bytes:
                arrived(int(max(bar.n for bar in bars)))
            return drawn

    return Bar


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _unreachable(error: BaseException) -> bool:
    """Whether nobody answered. HTTP libraries of the hub client have a TransportError of their own."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    return any(
        isinstance(link, ConnectionError | TimeoutError | OfflineModeIsEnabled)
        or any(kind.__name__ == "TransportError" for kind in type(link).__mro__)
        for link in _chain(error)
    )
