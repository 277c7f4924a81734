"""What is embedded (Sample), what is paired (PairSet) and what is retrieved (RetrievalSet). Loaders produce these and
nothing else; everything behind them works on these three types only."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import scipy.sparse as sp

from analysis.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

MODALITIES = ("image", "text", "image_text")
TASKS = ("t2t", "t2i", "t2it", "i2t", "i2i", "i2it", "it2t", "it2i", "it2it")  # query modality 2 candidate modality
SHORT = {"text": "t", "image": "i", "image_text": "it"}


@dataclass(frozen=True)
class Picture:
    """A picture that is decoded when asked for: a file, or bytes as they lie in a parquet row or an upload.

    `load` gives an upright RGB picture (EXIF orientation applied, first frame of an animation, CMYK and palettes
    converted) or raises DataError with the picture's name.
    """

    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)
    read: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)  # lazy bytes, e.g. a parquet cell
    name: str = ""

    def load(self) -> Image.Image:
        from analysis.data.pictures import decode

        return decode(self.bytes(), name=self.label)

    def bytes(self) -> bytes:
        if self.data is not None:
            return self.data
        if self.read is not None:
            return self.read()
        if self.path is None:
            raise DataError(f"Picture {self.label!r} has neither a file nor bytes; expected one of them.")
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise DataError(
                f"Picture {self.path.name!r} could not be read ({error.strerror or error}); "
                "expected a file beside the captions: check the image folder."
            ) from error

    @property
    def label(self) -> str:
        return self.name or (self.path.name if self.path else "picture")

    @staticmethod
    def of(image: Image.Image, name: str = "picture") -> Picture:
        """A picture from pixels in memory (lossless)."""
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, format="PNG")
        return Picture(data=buffer.getvalue(), name=name)


@dataclass(frozen=True)
class Sample:
    """One thing to embed: a picture, a text, or both.

    `pair_id` joins an image with its captions (-1: a sample that belongs to retrieval only). `instruction` is the
    sentence that an MLLM reads after the content (formats.md, prompts); dual encoders ignore it.
    """

    sample_id: str
    modality: str  # "image" | "text" | "image_text"
    text: str = ""
    picture: Picture | None = None
    pair_id: int = -1
    instruction: str = ""
    source: str = ""
    split: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise DataError(f"Sample {self.sample_id!r} has modality {self.modality!r}; expected one of {MODALITIES}.")
        if ("image" in self.modality) != (self.picture is not None):
            raise DataError(f"Sample {self.sample_id!r} is {self.modality!r} but its picture does not agree with that.")
        if ("text" in self.modality) and not self.text.strip():
            raise DataError(f"Sample {self.sample_id!r} is {self.modality!r} but its text is empty.")

    def with_instruction(self, instruction: str) -> Sample:
        return replace(self, instruction=instruction)


@dataclass
class Defects:
    """What a loader had to leave out: kind -> (count, first id). Reported, never silent, never fatal by itself."""

    found: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, kind: str, identifier: str) -> None:
        count, first = self.found.get(kind, (0, identifier))
        self.found[kind] = (count + 1, first)

    def __bool__(self) -> bool:
        return bool(self.found)

    def lines(self) -> list[str]:
        return [f"{count} x {kind}, first: {first}" for kind, (count, first) in sorted(self.found.items())]


@dataclass(frozen=True)
class PairSet:
    """Image-caption pairs. Samples of one `pair_id` are one image and its captions, the image first."""

    name: str
    samples: Sequence[Sample]
    split: str = ""
    revision: str = ""  # identifies the data: a hub revision, or a hash of file names and sizes
    defects: Defects = field(default_factory=Defects)


@dataclass(frozen=True)
class RetrievalSet:
    """One retrieval task: queries, candidates and which candidate is relevant to which query.

    qrels: csr_array (Q, C), non-zero = relevant. `missing_targets` counts, per query, relevant candidates that are
    named by the qrels file but are in no pool; a query that has only such targets counts as a miss in recall.
    """

    task: str  # "i2t", ...
    queries: Sequence[Sample]
    candidates: Sequence[Sample]
    qrels: sp.csr_array
    name: str = ""
    missing_targets: int = 0
    unanswerable_queries: int = 0
    note: str = ""  # e.g. that the folder's number disagrees with the modalities found
    defects: Defects = field(default_factory=Defects)

    def __post_init__(self) -> None:
        if self.qrels.shape != (len(self.queries), len(self.candidates)):
            raise DataError(
                f"qrels of {self.task} have shape {self.qrels.shape}; expected "
                f"({len(self.queries)}, {len(self.candidates)}), one row a query and one column a candidate."
            )
