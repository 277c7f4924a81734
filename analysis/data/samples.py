"""What is embedded (Sample), what is paired (PairSet) and what is retrieved (RetrievalSet). Loaders produce these and
nothing else; everything behind them works on these three types only."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analysis.data.defects import Defects, printable
from analysis.errors import DataError

if TYPE_CHECKING:
    import scipy.sparse as sp
    from PIL import Image

MODALITIES = ("image", "text", "image_text")
TASKS = ("t2t", "t2i", "t2it", "i2t", "i2i", "i2it", "it2t", "it2i", "it2it")  # query modality 2 candidate modality
SHORT = {"text": "t", "image": "i", "image_text": "it"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that is decoded when asked for: a file, or bytes as they lie in a parquet row or an upload.

    `load` gives an upright RGB picture (EXIF orientation applied, first frame of an animation, CMYK and palettes
    converted) or raises DataError with the picture's name. `read` must survive pickling (worker processes decode).
    """

    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)
    read: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)  # lazy bytes, e.g. a parquet cell
    name: str = ""
    image: Image.Image | None = field(default=None, repr=False, compare=False)  # decoded before, see `decoded`

    def load(self) -> Image.Image:
        from analysis.data.pictures import decode

        return decode(self.bytes(), name=self.label) if self.image is None else self.image

    def decoded(self) -> Picture:
        """This picture with its pixels at hand: whoever loads it from now on shares them, so nobody may draw into them."""
        return self if self.image is not None else replace(self, image=self.load())

    def packed(self) -> Picture:
        """This picture without decoded pixels, to be kept."""
        return replace(self, image=None)

    def check(self) -> tuple[int, int]:
        """(width, height) as stored. Raises DataError where the header alone shows that `load` would fail. Reads no
        pixels; a file on disk is opened but not read through."""
        from analysis.data.pictures import check_header

        in_file = self.path is not None and self.data is None and self.read is None and self.path.is_file()
        return check_header(self.path if in_file and self.path else self.bytes(), name=self.label)

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
                f"Picture {self.label!r} could not be read ({error.strerror or error}); "
                "expected a file beside the captions: check the image folder."
            ) from error

    @property
    def label(self) -> str:
        return printable(self.name or (self.path.name if self.path else "picture"))

    @staticmethod
    def of(image: Image.Image, name: str = "picture") -> Picture:
        """A picture from pixels in memory (lossless)."""
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, format="PNG")
        return Picture(data=buffer.getvalue(), name=name)


@dataclass(frozen=True, slots=True)
class Sample:
    """One thing to embed: a picture, a text, or both.

    `sample_id` is stable: it comes from the ids or file names of the data, never from a position that `limit` changes.
    `pair_id` joins an image with its captions (-1: a sample that belongs to retrieval only). `instruction` is the
    sentence that an MLLM reads after the content; dual encoders ignore it. `source` says where the content comes from:
    a URL where the data names one, else the picture's file name.
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


@dataclass(frozen=True)
class PairSet:
    """Image-caption pairs. Samples of one `pair_id` are one image and its captions, the image first; pair ids run
    from 0 to n-1 in the order of the samples."""

    name: str
    samples: Sequence[Sample]
    split: str = ""
    revision: str = ""  # identifies the data: a hash of annotation content, file names and sizes
    defects: Defects = field(default_factory=Defects)

    @property
    def n_pairs(self) -> int:
        return self.samples[-1].pair_id + 1 if self.samples else 0


@dataclass(frozen=True)
class RetrievalSet:
    """One retrieval task: queries, candidates and which candidate is relevant to which query.

    qrels: csr_array (Q, C), non-zero = relevant. Relevant candidates that the qrels file names but no pool holds are
    counted: `missing_per_query` (Q,), their sum `missing_targets`, and `unanswerable_queries`, whose targets are all
    missing. Such a query counts as a miss (the paper, hit rate over all queries); the fraction that mteb reports
    divides by found plus missing targets. Every query has at least one target by name.
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
    split: str = ""
    revision: str = ""
    missing_per_query: np.ndarray | None = None  # (Q,) int32; None = no target is missing

    def __post_init__(self) -> None:
        if self.missing_per_query is not None and self.missing_per_query.shape != (len(self.queries),):
            raise DataError(
                f"missing_per_query of {self.task} has shape {self.missing_per_query.shape}; "
                f"expected ({len(self.queries)},), one count a query."
            )
        if self.qrels.shape != (len(self.queries), len(self.candidates)):
            raise DataError(
                f"qrels of {self.task} have shape {self.qrels.shape}; expected "
                f"({len(self.queries)}, {len(self.candidates)}), one row a query and one column a candidate."
            )
