"""A loaded backbone: embedding many samples, and the tokens of one. Loading stands in backbones.py."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from analysis.data.samples import Sample
from analysis.errors import BackboneError
from analysis.models.batches import Batch, token_batches
from analysis.models.devices import is_out_of_memory, release_memory
from analysis.models.inputs import InputBuilder
from analysis.models.layouts import WHOLE
from analysis.models.pooling import VARIANTS, Role, check_variants, keep_tokens, pool_states
from analysis.models.results import Embeddings, TokenStates
from analysis.models.streaming import Record, ahead

if TYPE_CHECKING:
    from analysis.models.backbones import BackboneSpec
    from analysis.models.forward import DualForward, LanguageForward, SampleTokens

WINDOW = 1024  # samples that are sorted by length together
_Result = TypeVar("_Result")


class Backbone:
    """A vision-language model in memory. One forward pass at a time; safe to share between threads."""

    def __init__(
        self,
        spec: BackboneSpec,
        model: Any,
        inputs: InputBuilder,
        forward: DualForward | LanguageForward,
        *,
        revision: str,
        width: int,
        contrastive: bool,
    ) -> None:
        self.spec = spec
        self.key = spec.key
        self.revision = revision  # hub commit, or a fingerprint of a local folder
        self.width = width
        self.contrastive = contrastive  # whether image and text have towers of their own, trained to meet
        self.options = inputs.options
        self._device = model.device
        self.device, self.dtype = str(model.device), str(model.dtype).removeprefix("torch.")
        self._model, self._inputs, self._forward = model, inputs, forward
        self._ceiling: int | None = None  # padded tokens of the smallest batch that ran out of memory
        self._lock = threading.RLock()

    @property
    def available_variants(self) -> tuple[str, ...]:
        """Pooling variants that mean something here. A model that was trained to give one vector has "mean" only, the name
        of the base embedding: a dual encoder's projected pooled feature, an embedding model's own token."""
        return ("mean",) if self.contrastive or self.spec.trained_to_embed else tuple(VARIANTS)

    def _pooled_by(self, variants: tuple[str, ...]) -> tuple[str, ...]:
        """What the forward pass pools for these variants."""
        return (self.spec.pooling,) * len(variants) if self.spec.trained_to_embed else variants

    def embed(
        self,
        samples: Sequence[Sample],
        *,
        variants: Sequence[str] = ("mean",),
        batch_tokens: int | None = None,
        on_error: str = "raise",
        progress: Callable[[int], object] | None = None,
    ) -> Embeddings:
        """Un-normalised embeddings h of samples, every variant from one forward pass (design.md section 3).

        batch_tokens: padded tokens a batch, None = 16384 on an accelerator, 2048 on a CPU; it does not change a vector
        beyond rounding. on_error="skip" leaves out samples whose picture cannot be decoded and says so in `skipped`;
        "raise" raises their DataError. progress(n) is called as n further samples are done. No samples give (0, D)
        arrays. Raises BackboneError for unknown variants, values that are not finite and memory that runs out on a
        single sample; UnsupportedModality for image + text on a dual encoder without `fusion`.
        """
        check_variants(variants, self.available_variants, self.spec.label)
        names = tuple(dict.fromkeys(variants))
        vectors = np.full((len(names), len(samples), self.width), np.nan, np.float32)
        defined = np.zeros((len(names), len(samples)), bool)
        counts = np.zeros((len(samples), len(Role)), np.int32)
        record = Record(samples, on_error)
        for batch in ahead(self._batches(samples, batch_tokens, record)):
            for part, (values, is_defined) in self._run(
                batch, lambda b: self._forward.pooled(b, self._pooled_by(names))
            ):
                self._check_finite(values.reshape(len(part), -1), part)
                vectors[:, part.positions] = values.transpose(1, 0, 2)
                defined[:, part.positions] = is_defined.T
                for role in list(Role)[1:]:
                    counts[part.positions, role] = (part.roles == role).sum(axis=1)
            if progress is not None:
                progress(len(batch))
        if progress is not None and record.skipped:
            progress(len(record.skipped))
        return Embeddings(
            dict(zip(names, vectors, strict=True)),
            dict(zip(names, defined, strict=True)),
            counts,
            dict(sorted(record.skipped.items())),
            tuple(sorted(record.truncated)),
            record.defects(),
        )

    def tokens(self, sample: Sample) -> TokenStates:
        """The token states of one sample, from which `pool` makes every variant without a second pass."""
        ((_, tokens),) = self.stream_tokens([sample])
        return tokens

    def stream_tokens(
        self, samples: Sequence[Sample], *, batch_tokens: int | None = None, on_error: str = "raise"
    ) -> Iterator[tuple[int, TokenStates]]:
        """(place, token states) of many samples, batch by batch, longest first. Skipped samples do not appear."""
        for batch in self._batches(samples, batch_tokens, Record(samples, on_error)):
            for part, found in self._run(batch, lambda b: self._forward.tokens(b)):
                for row, (position, tokens) in enumerate(zip(part.positions, found, strict=True)):
                    self._check_finite(tokens.states.reshape(1, -1), part, row)
                    yield position, self._readable(part, row, tokens)

    def pool(self, tokens: TokenStates, keep: str | np.ndarray = "mean") -> np.ndarray:
        """(D,) float32: a variant by name, or the mean of the tokens where `keep` (L,) is True. Raises BackboneError
        when no token is left, and for a dual encoder for everything but "mean"."""
        if isinstance(keep, str):
            check_variants([keep], self.available_variants, self.spec.label)
            if tokens.pooled is not None:
                return tokens.pooled
            keep, _ = keep_tokens(tokens.roles, keep)
        elif tokens.pooled is not None:
            raise BackboneError(
                f"{self.spec.label} was trained to give one vector: its embedding is not a mean of tokens, so no token can "
                "be masked; choose an MLLM for that."
            )
        return pool_states(tokens.states, keep)

    def with_tap(self, tap: str) -> Backbone:
        """The same model in memory, its token states taken at another tap. Raises BackboneError for a dual encoder."""
        self._check_loaded()
        if self.contrastive:
            raise BackboneError(f"{self.spec.label} is a dual encoder: there is no tap to choose.")
        other = copy(self)
        other.spec, other._forward = replace(self.spec, tap=tap), self._forward.with_tap(tap)  # type: ignore[union-attr]
        return other

    def unload(self) -> None:
        """Free the model's memory. The backbone cannot embed afterwards."""
        with self._lock:
            if self._model is None:
                return
            model = weakref.ref(self._model)
            self._model = self._forward = None  # type: ignore[assignment]
            if model() is not None:  # part of a loop, such as the traceback of a batch that failed
                gc.unfreeze()  # the app sets aside from the collector what lives long
                gc.collect()
            release_memory(self._device)

    def _batches(self, samples: Sequence[Sample], batch_tokens: int | None, record: Record) -> Iterator[Batch]:
        """Batches of similar length, window by window."""
        self._check_loaded()
        budget = batch_tokens or (2048 if self.device == "cpu" else 16384)
        for start in range(0, len(samples), WINDOW):
            rows, lengths = self._inputs.rows(samples[start : start + WINDOW], record.fail_from(start))
            record.truncated.update(start + place for place, row in enumerate(rows) if row.truncated)
            ready = [place for place in range(len(rows)) if start + place not in record.skipped]
            for group in token_batches([lengths[place] for place in ready], budget):
                places = [ready[i] for i in group]
                batch = self._inputs.batch(
                    [rows[place] for place in places], [start + place for place in places], record.fail_from(0)
                )
                if batch is not None:
                    yield batch

    def _run(self, batch: Batch, work: Callable[[Batch], _Result]) -> Iterator[tuple[Batch, _Result]]:
        """`work` on a batch, or on its halves, quarters ... once memory runs out; a size that failed is not tried again."""
        waiting = [batch]
        while waiting:
            part = waiting.pop()
            if len(part) > 1 and self._ceiling is not None and part.n_tokens >= self._ceiling:
                waiting.extend(reversed(part.halves()))
                continue
            result: _Result | None = None
            try:
                with self._lock:
                    self._check_loaded()
                    result = work(part)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if len(part) == 1:
                    raise BackboneError(
                        f"{self.spec.label} ran out of memory on {self.device} with sample {part.sample_id(0)!r} alone; "
                        "choose another device, bfloat16, or a smaller picture."
                    ) from error
            if result is not None:
                yield part, result
                continue
            release_memory(self._device)  # outside the handler, which keeps the failed batch's memory alive
            self._ceiling = part.n_tokens
            waiting.append(part)

    def _readable(self, batch: Batch, row: int, tokens: SampleTokens) -> TokenStates:
        own, picture, tokenizer = batch.rows[row], batch.picture(row), self._inputs.tokenizer
        words = own.strings(tokenizer)
        if picture is None:
            start = 0
            if own.frame.dummy:  # its tokens are pooled as template, or not at all
                n_dummy = len(tokens) - len(words) + 1
                place = int(np.flatnonzero(own.roles == Role.IMAGE)[0])
                words[place : place + 1] = [""] * n_dummy
        elif self.contrastive:  # the patches of a dual encoder stand before the words, its class token before them
            start = int(np.flatnonzero(tokens.roles == Role.IMAGE)[0])
            words[:0] = [""] * (start + len(picture))
        else:
            start = int(np.flatnonzero(own.roles == Role.IMAGE)[0])
            names = iter(tokenizer.convert_ids_to_tokens(picture.ids[~picture.patches].tolist()))
            words[start : start + 1] = ["" if patch else next(names) for patch in picture.patches]
        pooled = tokens.pooled
        if self.spec.trained_to_embed:
            pooled = pool_states(tokens.states, keep_tokens(tokens.roles, self.spec.pooling)[0])
        return TokenStates(
            tokens.states,
            tokens.roles,
            tokens.ids,
            words,
            picture.grid if picture else None,
            own.truncated,
            pooled,
            cells=picture.cells + start if picture else None,
            box=picture.box if picture else WHOLE,
        )

    def _check_finite(self, values: np.ndarray, batch: Batch, row: int | None = None) -> None:
        """values: (rows, numbers) of `batch`, or of its one row `row`."""
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if bad.size:
            first = batch.sample_id(int(bad[0]) if row is None else row)
            more = f" and {bad.size - 1} more" if bad.size > 1 else ""
            raise BackboneError(
                f"{self.spec.label} gave NaN or infinite numbers for sample {first!r}{more} in {self.dtype}; expected "
                "finite ones: load it with dtype bfloat16 or float32, or check its weights."
            )

    def _check_loaded(self) -> None:
        if self._model is None:
            raise BackboneError(f"{self.spec.label} has been unloaded; load it again before embedding.")
