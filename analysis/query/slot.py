"""The one model that a server keeps in memory, shared by all visitors: loaded on request, exchanged under a lock, freed
when asked. A visitor who comes while it is busy waits and is told why."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import BackboneError
from analysis.query.memory import LoadProgress

if TYPE_CHECKING:
    from analysis.models.backbones import Backbone

PATIENCE = 120.0  # seconds a visitor waits for another one's load or forward pass
_TICK = 0.2  # seconds between two looks at the lock, and between two messages


@dataclass(frozen=True)
class ModelRequest:
    """Which backbone and how it is run. Equal requests share one loaded model."""

    name: str  # key of BACKBONES, hub id or local folder
    device: str = "auto"
    dtype: str | None = None  # None: float32 on a CPU, the backbone's own elsewhere
    tap: str | None = None
    revision: str | None = None
    fusion: str | None = None
    dummy_image: str = "exclude"
    weights: str | None = None  # the folder of a known backbone's weights; None: from the hub

    @property
    def short_name(self) -> str:
        """The name as sentences use it: of a folder, its last part."""
        return short_name(self.name)


def short_name(name: str) -> str:
    return Path(name).name if Path(name).is_absolute() else name


@dataclass(frozen=True)
class LoadedModel:
    """What is in memory now."""

    request: ModelRequest
    label: str
    device: str
    dtype: str
    revision: str
    seconds: float  # that loading took


Load = Callable[[ModelRequest, Callable[[int, int], None]], "Backbone"]  # the second is told bytes as they arrive


class ModelSlot:
    """Holds at most one loaded backbone. Thread-safe; make one for the whole process."""

    def __init__(self, load: Load | None = None) -> None:
        """load: how a backbone comes."""
        self._load = load or load_request
        self._lock = threading.Lock()  # held while a model is loaded, used or freed
        self._backbone: Backbone | None = None
        self._loaded: LoadedModel | None = None
        self._doing = ""  # what the holder of the lock does, for those who wait

    @property
    def loaded(self) -> LoadedModel | None:
        """The model in memory; another visitor may exchange it at any time."""
        return self._loaded

    @contextmanager
    def use(
        self,
        request: ModelRequest,
        *,
        patience: float = PATIENCE,
        tell: Callable[[str], None] = lambda sentence: None,
    ) -> Iterator[Backbone]:
        """The requested model for one piece of work, loaded first unless it is there; what was loaded before is freed.

        Nobody else loads or computes meanwhile. tell(sentence) is called while waiting and before loading. Raises
        BackboneError when the model stays busy for `patience` seconds and for everything that can go wrong in loading;
        the slot is then empty, and the next request starts afresh.
        """
        self._acquire(f"computing with {request.short_name}", patience, tell)
        try:
            if self._loaded is None or self._loaded.request != request or self._backbone is None:
                self._doing = f"loading {request.short_name}"
                self._free()
                self._fill(request, tell)
                self._doing = f"computing with {request.short_name}"
            assert self._backbone is not None
            yield self._backbone
        finally:
            self._release()

    def unload(self, *, patience: float = PATIENCE) -> bool:
        """Free the model's memory; False when there was none. Waits for work in progress."""
        self._acquire("unloading", patience, lambda sentence: None)
        try:
            had = self._backbone is not None
            self._free()
            return had
        finally:
            self._release()

    def _fill(self, request: ModelRequest, tell: Callable[[str], None]) -> None:
        """Load in a thread of its own, so that the visitor is told how far it is. Who leaves meanwhile does not stop it:
        the lock is held until the model is there, and the next visitor finds it."""
        progress = LoadProgress(request)
        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(self._load, request, progress.downloaded)
            try:
                while not loading.done():
                    tell(progress.sentence())
                    wait([loading], timeout=_TICK)
            except BaseException:
                with suppress(Exception):
                    self._keep(request, loading.result(), progress.seconds)
                raise
        try:
            self._keep(request, loading.result(), progress.seconds)
        finally:
            del loading  # it holds its error, whose frames hold this one and half a model: a loop

    def _keep(self, request: ModelRequest, backbone: Backbone, seconds: float) -> None:
        self._backbone = backbone
        self._loaded = LoadedModel(
            request, backbone.spec.label, backbone.device, backbone.dtype, backbone.revision, seconds
        )

    def _free(self) -> None:
        backbone, self._backbone, self._loaded = self._backbone, None, None
        if backbone is not None:
            backbone.unload()

    def _acquire(self, doing: str, patience: float, tell: Callable[[str], None]) -> None:
        start = time.monotonic()
        while not self._lock.acquire(timeout=_TICK):
            waited = time.monotonic() - start
            if waited > patience:
                raise BackboneError(
                    f"The model is busy ({self._doing or 'working'}) for another visitor since {waited:.0f} s; "
                    "try again in a moment."
                )
            tell(f"Another visitor is {self._doing or 'using the model'}; yours is next ({waited:.0f} s).")
        self._doing = doing

    def _release(self) -> None:
        self._doing = ""
        self._lock.release()


def load_request(request: ModelRequest, told: Callable[[int, int], None] | None = None) -> Backbone:
    """`load_backbone` with the fields of a request. told(done, total): called with the bytes of a download."""
    from analysis.models.backbones import load_backbone

    return load_backbone(
        request.name, device=request.device, dtype=request.dtype, tap=request.tap, revision=request.revision,
        fusion=request.fusion, dummy_image=request.dummy_image, weights=request.weights, told=told,
    )  # fmt: skip
