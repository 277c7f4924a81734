"""Samples as model inputs: three builders of the text around the content, rows of tokens, batches of rows.

Batches are padded on the right here, whatever side the checkpoint's tokenizer prefers, so a token has the same position
with and without neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.data.samples import MODALITIES, Sample
from analysis.errors import BackboneError, DataError, UnsupportedModality
from analysis.models.batches import Batch
from analysis.models.families import Family, at_path
from analysis.models.layouts import PictureTokens, image_token_of
from analysis.models.pixels import PixelBuilder, Pixels
from analysis.models.pooling import Role
from analysis.models.token_rows import Frame, Row, RowBuilder

MAX_TEXT_TOKENS = 2048  # of one sample's own text, where the model has room for them
_MARK = "\u2042CONTENT\u2042"  # stands for the content while a chat template is rendered


@dataclass(frozen=True)
class Options:
    """Choices that change numbers and have a name. fusion: what image + text means to a dual encoder (None: refused;
    "sum_of_unit_vectors": UniIR's score fusion). dummy_image: whether the black picture that PaliGemma needs beside a
    text is left out of pooling ("exclude") or pooled like the rest of the template ("include", as the authors' code)."""

    fusion: str | None = None
    dummy_image: str = "exclude"
    max_text_tokens: int = MAX_TEXT_TOKENS

    def __post_init__(self) -> None:
        for name, value, legal in (
            ("fusion", self.fusion, (None, "sum_of_unit_vectors")),
            ("dummy_image", self.dummy_image, ("exclude", "include")),
        ):
            if value not in legal:
                raise BackboneError(f"{name} is {value!r}; expected one of {', '.join(map(str, legal))}.")


class InputBuilder:
    """Everything between samples and the model's forward pass, for one loaded processor."""

    def __init__(
        self,
        processor: Any,
        config: Any,
        family: Family,
        options: Options,
        name: str,
        template: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._family, self.options, self._name = family, options, name
        self._frames = (
            {modality: _written_frame(text, processor, family) for modality, text in template}
            if template
            else BUILDERS[family.builder](processor, family)
        )
        self._pixels = PixelBuilder(processor, config, family)
        self._positions = int(at_path(config, family.positions))
        self.image_token_id = None if family.contrastive else image_token_of(processor, family)
        self.tokenizer = processor.tokenizer
        self._rows = RowBuilder(
            self.tokenizer,
            self.image_token_id,
            max_tokens=options.max_text_tokens,
            positions=self._positions,
            code_prefix=family.code_prefix,
            lower=family.lower_text,
            special=not _begins_itself(self._frames, self.tokenizer),
        )

    def rows(self, samples: Sequence[Sample], failed: Callable[[int, DataError], None]) -> tuple[list[Row], list[int]]:
        """Tokenised rows and their expected numbers of tokens. A sample whose picture cannot be read is reported to
        `failed` with its place; its row has no picture tokens, and the caller leaves it out."""
        frames, ready, n_image = [], [], []
        for place, sample in enumerate(samples):
            frame = self._frame(sample)
            tokens = 0
            if sample.picture is not None:
                try:
                    picture, tokens = self._pixels.expected_tokens(sample.picture)
                    sample = replace(sample, picture=picture) if picture is not sample.picture else sample
                except DataError as error:
                    failed(place, error)
            elif frame.dummy:
                tokens = self._pixels.dummy_tokens
            frames.append(frame)
            ready.append(sample)
            n_image.append(tokens)
        in_row = [0 if self._family.contrastive else n for n in n_image]  # a dual encoder reads pictures apart
        rows = self._rows.build(ready, frames, in_row, instructions=not self._family.contrastive)
        if self._family.contrastive:
            rows = [row if "text" in row.sample.modality else row.without_tokens() for row in rows]
        return rows, [self._length(row, n) for row, n in zip(rows, n_image, strict=True)]

    def batch(
        self, rows: Sequence[Row], positions: Sequence[int], failed: Callable[[int, DataError], None]
    ) -> Batch | None:
        """One padded batch with its pictures decoded. Rows whose picture cannot be decoded are reported with their
        position and left out; None when nothing is left."""
        shown = [place for place, row in enumerate(rows) if row.sample.picture is not None or row.frame.dummy]
        pixels, reasons = self._pixels.prepare([rows[place].sample.picture for place in shown])
        unusable = {place: reason for place, reason in zip(shown, reasons, strict=True) if reason is not None}
        for place, reason in unusable.items():
            failed(positions[place], reason)
        kept = [place for place in range(len(rows)) if place not in unusable]
        if not kept:
            return None
        with_picture = set(shown)
        picture_rows = [row for row, place in enumerate(kept) if place in with_picture]
        return self._padded([rows[place] for place in kept], [positions[place] for place in kept], pixels, picture_rows)

    def _padded(self, rows: list[Row], positions: list[int], pixels: Pixels | None, picture_rows: list[int]) -> Batch:
        import torch

        pictures: dict[int, PictureTokens] = {}
        if pixels is not None and self.image_token_id is not None:
            pictures.update(zip(picture_rows, pixels.pictures, strict=True))
        expanded = [self._expanded(row, pictures.get(i)) for i, row in enumerate(rows)]
        longest = max(len(ids) for ids, _ in expanded)
        if self._family.pad_text_to_end:
            longest = self._positions
        pad = self.tokenizer.pad_token_id
        ids = np.full((len(rows), longest), 0 if pad is None else pad, np.int64)
        roles = np.full((len(rows), longest), Role.PAD, np.int8)
        mask = np.zeros((len(rows), longest), np.int64)
        # A text tower that reads its padding wants it on the side on which the checkpoint's tokenizer puts it.
        left = self._family.pad_text_to_end and self.tokenizer.padding_side == "left"
        for i, (row_ids, row_roles) in enumerate(expanded):
            start = longest - len(row_ids) if left else 0
            place = slice(start, start + len(row_ids))
            ids[i, place], roles[i, place], mask[i, place] = row_ids, row_roles, 1
        return Batch(rows, positions, torch.from_numpy(ids), torch.from_numpy(mask), roles, pixels, picture_rows)

    def _expanded(self, row: Row, picture: PictureTokens | None) -> tuple[np.ndarray, np.ndarray]:
        """Ids and roles with what stands for the picture in place of its one placeholder."""
        if picture is None:
            return row.ids, row.roles
        seen = np.where(picture.patches, Role.IMAGE, Role.TEMPLATE).astype(np.int8)
        if row.frame.dummy:
            seen[:] = Role.PAD if self.options.dummy_image == "exclude" else Role.TEMPLATE
        ((place,),) = np.nonzero(row.roles == Role.IMAGE)
        return tuple(  # type: ignore[return-value]
            np.concatenate([own[:place], picked, own[place + 1 :]])
            for own, picked in ((row.ids, picture.ids), (row.roles, seen))
        )

    def _length(self, row: Row, n_image: int) -> int:
        """Tokens that a row will cost; a dual encoder pays for its longer side."""
        if not self._family.contrastive:
            return row.n_text + n_image
        text = self._positions if self._family.pad_text_to_end and len(row.ids) else len(row.ids)
        return max(n_image, text)

    def _frame(self, sample: Sample) -> Frame:
        if self._family.contrastive and sample.modality == "image_text" and self.options.fusion is None:
            raise UnsupportedModality(
                f"{self._name} embeds an image or a text, and sample {sample.sample_id!r} is both; expected one of them, "
                'or load the backbone with fusion="sum_of_unit_vectors" to add the two unit vectors.'
            )
        return self._frames[sample.modality]


def _dual_frames(processor: Any, family: Family) -> dict[str, Frame]:
    """Bare text, pictures apart."""
    return {modality: Frame("", "", picture=False) for modality in MODALITIES}


def _written_frame(template: str, processor: Any, family: Family) -> Frame:
    """The frame of a whole prompt as an embedding model's authors wrote it, with {instruction} and {text} once at most."""
    shown = family.picture.format(**_control_tokens(processor, family))
    picture = processor.image_token in template
    template = template.replace(processor.image_token, shown)
    first, second = sorted(("{text}", "{instruction}"), key=lambda mark: template.find(mark) % (len(template) + 1))
    before, _, rest = template.partition(first)
    if second not in rest:  # a picture alone has no text
        return Frame(before, rest, picture)
    between, _, after = rest.partition(second)
    if first == "{instruction}":
        return Frame(before, after, picture, between=between)
    return Frame(before, between + after, picture)


def _chat_frames(processor: Any, family: Family) -> dict[str, Frame]:
    """One user message through the checkpoint's own chat template, without a generation prompt: picture, then text."""
    frames = {}
    for modality in MODALITIES:
        picture = modality != "text"
        prompt = _rendered(processor, _MARK, picture)
        trims = _rendered(processor, f" {_MARK} ", picture) == prompt
        before, found, after = prompt.partition(_MARK)
        if not found or before.count(processor.image_token) != int(picture):
            raise BackboneError(
                "The checkpoint's chat template does not show the picture and the text of a message once each; "
                "expected a template for image and text."
            )
        shown = family.picture.format(**_control_tokens(processor, family))
        frames[modality] = Frame(before.replace(processor.image_token, shown), after, picture, trims=trims)
    return frames


def _rendered(processor: Any, words: str, picture: bool) -> str:
    content = [{"type": "image"}] * picture + [{"type": "text", "text": words}]
    try:
        return processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    except Exception as error:  # templates are programs; whatever they raise is the checkpoint's fault
        raise BackboneError(
            f"The checkpoint's chat template cannot be rendered ({error}); expected a chat_template beside the tokenizer."
        ) from error


def _placeholder_frames(processor: Any, family: Family) -> dict[str, Frame]:
    """A placeholder in front of the text, with the control tokens that the processor adds."""
    tokens = _control_tokens(processor, family)
    before, after = (part.format(**tokens) for part in family.frame)
    with_picture = Frame(before, after, picture=True)
    if family.frame_text is None:
        text_only = replace(with_picture, dummy=True)
    else:
        before, after = (part.format(**tokens) for part in family.frame_text)
        text_only = Frame(before, after, picture=False)
    return {"image": with_picture, "image_text": with_picture, "text": text_only}


def _control_tokens(processor: Any, family: Family) -> dict[str, str]:
    """The control tokens that a family's texts may name."""

    def named(*names: str) -> str:
        return next((token for name in names if (token := getattr(processor, name, None))), "")

    return {
        "image": at_path(processor, family.repeated),
        "bos": processor.tokenizer.bos_token or "",
        "sep": processor.tokenizer.sep_token or "",
        "boi": named("image_start_token", "start_image_token", "boi_token"),
        "eoi": named("image_end_token", "end_image_token") or getattr(processor.tokenizer, "eoi_token", ""),
    }


def _begins_itself(frames: dict[str, Frame], tokenizer: Any) -> bool:
    """Whether a chat template writes the first control token itself, so that the tokenizer must not add another."""
    return bool(tokenizer.bos_token) and any(frame.before.startswith(tokenizer.bos_token) for frame in frames.values())


BUILDERS: dict[str, Callable[[Any, Family], dict[str, Frame]]] = {
    "dual_encoder": _dual_frames,
    "chat_template": _chat_frames,
    "image_placeholder": _placeholder_frames,
}
