"""How each kind of processor lays a picture out as tokens: one rectangle, or tiles of it beside a view of the whole.

A layout is one small function that gives the tokens of a picture from its size. Families name theirs in families.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.errors import BackboneError
from analysis.models.families import Family, at_path

if TYPE_CHECKING:
    from PIL.Image import Image

Grid = tuple[int, int]  # rows, columns
Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class PictureTokens:
    """What stands in a row of tokens for one picture.

    ids: (n,) token ids, -1 for a dual encoder's patches. patches: (n,) True for tokens that carry the picture (LLaVA's
    line ends included, whose states are learnt but count as image tokens for the model), False for markup between tiles.
    grid, cells: the finest view of the whole picture as rows x columns, and where in `ids` each of its cells stands, row by
    row; tokens of a coarser view that some families add belong to no cell. box: the part of the picture under the grid, as
    shares of its width and height (left, top, right, bottom); less than all where the processor crops.
    """

    ids: np.ndarray
    patches: np.ndarray
    grid: Grid
    cells: np.ndarray
    box: Box = WHOLE

    def __len__(self) -> int:
        return len(self.ids)


Inputs = dict[str, Any]  # what the processor returns for pictures


@dataclass(frozen=True)
class Layout:
    """tokens(height, width): how many tokens a picture will take, exact for upright pictures; `by_size` says whether that
    depends on the size. arrange(inputs, pictures): the tokens of processed pictures, and how many rows of `pixel_values`
    each has, where pictures are laid end to end (None: one each). whole: the whole processor is called, with one
    placeholder a picture and `options`, instead of its image processor."""

    by_size: bool
    tokens: Callable[[int, int], int]
    arrange: Callable[[Inputs, Sequence[Image]], tuple[list[PictureTokens], list[int] | None]]
    whole: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def layout_of(processor: Any, config: Any, family: Family) -> Layout:
    """The layout of a loaded processor."""
    return LAYOUTS[family.grid](processor, config, image_token_of(processor, family))


def image_token_of(processor: Any, family: Family) -> int:
    """Id of the token that is repeated for the patches of a picture; -1 for a dual encoder, which has none."""
    if family.contrastive:
        return -1
    return int(processor.tokenizer.convert_tokens_to_ids(at_path(processor, family.repeated)))


def rectangle(token: int, rows: int, columns: int) -> PictureTokens:
    """One token a patch, row by row."""
    n = rows * columns
    return PictureTokens(np.full(n, token, np.int64), np.ones(n, bool), (rows, columns), np.arange(n))


def _thw(processor: Any, config: Any, token: int) -> Layout:
    """Qwen: as many patches as the picture's size asks for, merged merge x merge into tokens, laid end to end."""
    images = processor.image_processor
    merge = images.merge_size

    def arrange(inputs: Inputs, pictures: Sequence[Image]) -> tuple[list[PictureTokens], list[int]]:
        sizes = inputs["image_grid_thw"].tolist()
        return [rectangle(token, h // merge, w // merge) for _, h, w in sizes], [t * h * w for t, h, w in sizes]

    return Layout(
        True, lambda height, width: images.get_number_of_image_patches(height, width, {}) // merge**2, arrange
    )


def _square(processor: Any, config: Any, token: int) -> Layout:
    """One fixed square of tokens a picture: MLLMs' processors say how many, CLIP and SigLIP cut pixels."""
    stated = getattr(processor, "image_seq_length", None)
    if stated is None:
        stated = (at_path(config, "vision_config.image_size") // at_path(config, "vision_config.patch_size")) ** 2
    side, images = _side(stated), processor.image_processor

    def arrange(inputs: Inputs, pictures: Sequence[Image]) -> tuple[list[PictureTokens], None]:
        return [replace(rectangle(token, side, side), box=_cropped(images, one)) for one in pictures], None

    return Layout(False, lambda *_: stated, arrange)


def _shapes(processor: Any, config: Any, token: int) -> Layout:
    """NaFlex: the aspect ratio is kept, every picture is padded to the same number of patches."""

    def arrange(inputs: Inputs, pictures: Sequence[Image]) -> tuple[list[PictureTokens], None]:
        return [rectangle(token, h, w) for h, w in inputs["spatial_shapes"].tolist()], None

    return Layout(False, lambda *_: processor.image_processor.max_num_patches, arrange)


def _tagged_tiles(processor: Any, config: Any, token: int) -> Layout:
    """Idefics3, SmolVLM: square tiles, each behind a tag that names its row and column, then the whole picture."""
    side = _side(processor.image_seq_len)

    @cache
    def laid(rows: int, columns: int) -> PictureTokens:
        text = processor.replace_image_token({"rows": [[rows]], "cols": [[columns]]}, 0)
        ids = np.array(processor.tokenizer(text, add_special_tokens=False)["input_ids"], np.int64)
        patches = ids == token
        starts = np.flatnonzero(patches & ~np.roll(patches, 1))  # markup stands first, so the roll brings in a False
        tiles = starts[: rows * columns] if rows else starts[:1]
        return PictureTokens(ids, patches, *_stitched(tiles.reshape(max(rows, 1), -1), side))

    def picture(height: int, width: int) -> PictureTokens:
        return laid(*processor.image_processor.get_number_of_image_patches(height, width, {})[1:])

    return _by_size(picture, whole=True)


def _flat_tiles(processor: Any, config: Any, token: int) -> Layout:
    """InternVL: a canvas of square tiles in the picture's proportions, then the whole picture, without markup between."""
    from transformers.models.got_ocr2.image_processing_got_ocr2 import get_optimal_tiled_canvas

    images, side = processor.image_processor, _side(processor.image_seq_length)

    @cache
    def picture(height: int, width: int) -> PictureTokens:
        tile = (images.size["height"], images.size["width"])
        columns, rows = get_optimal_tiled_canvas((height, width), tile, images.min_patches, images.max_patches)
        n_tiles = rows * columns + (rows * columns > 1)
        starts = np.arange(rows * columns).reshape(rows, columns) * side**2
        n = n_tiles * side**2
        return PictureTokens(np.full(n, token, np.int64), np.ones(n, bool), *_stitched(starts, side))

    return _by_size(picture, whole=True, rows_of=lambda one: len(one) // side**2, crop_to_patches=True)


def _unpadded_tiles(processor: Any, config: Any, token: int) -> Layout:
    """LLaVA-NeXT, LLaVA-OneVision: the whole picture, then its tiles as one grid without the padding around the picture, a
    line-end token after each row. OneVision scales a grid of more than `anyres_max` tiles down."""
    from transformers.image_processing_utils import select_best_resolution

    image_size = at_path(config, "vision_config.image_size")
    side = image_size // at_path(config, "vision_config.patch_size")
    at_most = getattr(processor, "vision_aspect_ratio", "").removeprefix("anyres_max_")

    @cache
    def picture(height: int, width: int) -> PictureTokens:
        best = select_best_resolution((height, width), processor.image_processor.image_grid_pinpoints)
        rows, columns = (extent // image_size * side for extent in best)
        if width / height > columns / rows:
            rows -= (rows - int(round(height * (columns / width), 7))) // 2 * 2
        else:
            columns -= (columns - int(round(width * (rows / height), 7))) // 2 * 2
        if at_most:
            ratio = math.sqrt(rows * columns / (int(at_most) * side**2))
            if ratio > 1.1:
                rows, columns = int(rows // ratio), int(columns // ratio)
        n = side**2 + rows * (columns + 1)
        cells = side**2 + np.arange(rows)[:, None] * (columns + 1) + np.arange(columns)
        return PictureTokens(np.full(n, token, np.int64), np.ones(n, bool), (rows, columns), cells.ravel())

    return _by_size(picture, whole=True)


LAYOUTS: dict[str, Callable[[Any, Any, int], Layout]] = {
    "thw": _thw,
    "square": _square,
    "shapes": _shapes,
    "tagged_tiles": _tagged_tiles,
    "flat_tiles": _flat_tiles,
    "unpadded_tiles": _unpadded_tiles,
}


def _by_size(
    picture: Callable[[int, int], PictureTokens],
    *,
    whole: bool,
    rows_of: Callable[[PictureTokens], int] | None = None,
    **options: Any,
) -> Layout:
    """The layout of a family whose tokens follow from the picture's size alone."""

    def arrange(inputs: Inputs, pictures: Sequence[Image]) -> tuple[list[PictureTokens], list[int] | None]:
        found = [picture(one.height, one.width) for one in pictures]
        return found, None if rows_of is None else [rows_of(one) for one in found]

    return Layout(True, lambda height, width: len(picture(height, width)), arrange, whole, options)


def _stitched(starts: np.ndarray, side: int) -> tuple[Grid, np.ndarray]:
    """The grid of (R, C) tiles of side x side tokens put together, and its cells row by row. starts: (R, C) position of each
    tile's first token."""
    rows, columns = np.ogrid[: starts.shape[0] * side, : starts.shape[1] * side]
    cells = starts[rows // side, columns // side] + rows % side * side + columns % side
    return (cells.shape[0], cells.shape[1]), cells.ravel()


def _cropped(images: Any, picture: Image) -> Box:
    """What a processor that resizes the shorter edge and crops the centre (CLIP, Chameleon) leaves of a picture."""
    size, crop = getattr(images, "size", None) or {}, getattr(images, "crop_size", None) or {}
    shortest = dict(size).get("shortest_edge")
    if not getattr(images, "do_center_crop", False) or not shortest or not crop:
        return WHOLE
    scale = shortest / min(picture.width, picture.height)
    left, top = (
        max(1 - kept / (extent * scale), 0.0) / 2
        for kept, extent in ((crop["width"], picture.width), (crop["height"], picture.height))
    )
    return left, top, 1 - left, 1 - top


def _side(n: int) -> int:
    side = math.isqrt(n)
    if side * side != n:
        raise BackboneError(f"The processor announces {n} image tokens; expected a square number of them.")
    return side
