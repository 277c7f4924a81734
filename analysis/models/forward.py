"""The forward pass of a loaded model on one batch: token states of an MLLM, embeddings of a dual encoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from analysis.errors import BackboneError
from analysis.models.batches import Batch
from analysis.models.families import Family, at_path
from analysis.models.pooling import Role, pooling_weights


@dataclass(frozen=True)
class SampleTokens:
    """One sample's tokens on the CPU: states (L, D) float32, roles (L,), ids (L,) with -1 for a dual encoder's patches;
    pooled (D,) is the embedding of a dual encoder."""

    states: np.ndarray
    roles: np.ndarray
    ids: np.ndarray
    pooled: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.roles)


class LanguageForward:
    """An MLLM: one sequence a sample, one state a token. Taps: "post_norm", the final norm's output; "pre_norm", its input;
    "pre_mlp", the residual stream after the last layer's attention, before its MLP (FreeRet, arXiv 2509.24621)."""

    def __init__(self, model: Any, family: Family, tap: str, positions: str = "model") -> None:
        self._model, self._family, self._tap, self._positions = model, family, tap, positions
        self._pixel_dtype = next(at_path(model, family.vision).parameters()).dtype

    def with_tap(self, tap: str) -> LanguageForward:
        return LanguageForward(self._model, self._family, tap, self._positions)

    @torch.inference_mode()
    def pooled(self, batch: Batch, variants: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """(B, V, D) float32 and defined (B, V): every variant from one pass."""
        weights, defined = pooling_weights(batch.roles, variants)
        states = self._states(batch)
        return torch.bmm(torch.from_numpy(weights).to(states.device), states).cpu().numpy(), defined

    @torch.inference_mode()
    def tokens(self, batch: Batch) -> list[SampleTokens]:
        """The tokens of each sample that may be pooled, in order."""
        states, ids = self._states(batch).cpu().numpy(), batch.ids.numpy()
        present = batch.roles != Role.PAD
        return [
            SampleTokens(s[keep], r[keep], i[keep])
            for s, r, i, keep in zip(states, batch.roles, ids, present, strict=True)
        ]

    def _states(self, batch: Batch) -> torch.Tensor:
        """(B, L, D) float32, zero where a token is never pooled, so that nothing there can reach a mean."""
        device = self._model.device
        inputs = {"input_ids": batch.ids.to(device), "attention_mask": batch.mask.to(device)}
        if self._positions == "sequential":  # one number for each of M-RoPE's three axes
            inputs["position_ids"] = torch.arange(batch.ids.shape[1], device=device).expand(3, len(batch), -1)
        if self._family.token_types:
            name, at_image = self._family.token_types
            types = torch.from_numpy((batch.roles == Role.IMAGE).astype(np.int64) * at_image)
            inputs[name] = types.to(device)
        if batch.pixels is not None:
            inputs |= _pixel_inputs(batch, device, self._pixel_dtype)
        with _input_of(self._tapped()) as entering:
            output = self._model(**inputs, use_cache=False).last_hidden_state
        states = output if self._tap == "post_norm" else entering[0]
        padding = torch.from_numpy(batch.roles == Role.PAD).to(device)
        return states.float().masked_fill_(padding[..., None], 0.0)

    def _decoder(self) -> Any:
        """The part of the model that holds the layers: the one that holds the final norm."""
        parent, _, _ = self._family.norm.rpartition(".")
        return at_path(self._model, parent) if parent else self._model

    def _tapped(self) -> torch.nn.Module:
        """The module whose input is the tapped state."""
        if self._tap != "pre_mlp":
            return at_path(self._model, self._family.norm)
        layer = self._decoder().layers[-1]
        if getattr(self._model.config, "swin_norm", False):  # Chameleon-30B normalises behind attention and MLP
            return layer.mlp
        for name in (
            "pre_feedforward_layernorm",
            "post_attention_layernorm",
        ):  # Gemma has both; the first reads the sum
            if hasattr(layer, name):
                return getattr(layer, name)
        raise BackboneError(
            f"The layers of this {self._family.label} have no norm before their MLP; expected post_attention_layernorm or "
            "pre_feedforward_layernorm: choose tap pre_norm or post_norm."
        )


class DualForward:
    """A dual encoder: an image tower and a text tower that meet in one space."""

    def __init__(self, model: Any, family: Family) -> None:
        self._model, self._family = model, family
        self._pixel_dtype = next(at_path(model, family.vision).parameters()).dtype

    @torch.inference_mode()
    def pooled(self, batch: Batch, variants: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """(B, 1, D) float32: the projected pooled feature, not normalised. For image + text the sum of the two unit
        vectors (UniIR's score fusion: s(q, c) = <image, c> + <text, c>)."""
        text_rows = _text_rows(batch)
        image = self._image_features(batch)
        text = self._text_features(batch, text_rows)
        both = sorted(set(batch.picture_rows) & set(text_rows))
        found = image if image is not None else text
        assert found is not None
        vectors = torch.zeros(len(batch), found.shape[1], device=found.device)
        if image is not None:
            vectors[batch.picture_rows] = image
        if text is not None:
            vectors[text_rows] = text
        if both and image is not None and text is not None:
            image_of = image[[batch.picture_rows.index(row) for row in both]]
            text_of = text[[text_rows.index(row) for row in both]]
            vectors[both] = _unit(image_of) + _unit(text_of)
        return vectors[:, None].cpu().numpy(), np.ones((len(batch), 1), bool)

    @torch.inference_mode()
    def tokens(self, batch: Batch) -> list[SampleTokens]:
        """Patch states and text-token states of each sample, patches first, in the joint space where the model has a
        projection for them (CLIP) and as the tower leaves them where it has none (SigLIP's patches)."""
        parts: list[list[SampleTokens]] = [[] for _ in batch.rows]
        if batch.pixels is not None:
            inputs = _pixel_inputs(batch, self._model.device, self._pixel_dtype)
            output = self._model.vision_model(**inputs)
            states = self._through(self._family.patch_heads, output.last_hidden_state)
            for row, picture, state in zip(batch.picture_rows, batch.pixels.pictures, states, strict=True):
                roles = np.array([Role.TEMPLATE] * self._family.class_token + [Role.IMAGE] * len(picture), np.int8)
                parts[row].append(SampleTokens(state[: len(roles)], roles, np.full(len(roles), -1)))
        text_rows = _text_rows(batch)
        if text_rows:
            output = self._model.text_model(**self._text_inputs(batch, text_rows))
            states = self._through(self._family.text_heads, output.last_hidden_state)
            for row, state in zip(text_rows, states, strict=True):
                keep = batch.roles[row] != Role.PAD
                parts[row].append(SampleTokens(state[keep], batch.roles[row][keep], batch.ids[row].numpy()[keep]))
        pooled = self.pooled(batch, ("mean",))[0][:, 0]
        return [
            SampleTokens(
                np.concatenate([part.states for part in found]),
                np.concatenate([part.roles for part in found]),
                np.concatenate([part.ids for part in found]),
                embedding,
            )
            for found, embedding in zip(parts, pooled, strict=True)
        ]

    def _image_features(self, batch: Batch) -> torch.Tensor | None:
        if batch.pixels is None:
            return None
        inputs = _pixel_inputs(batch, self._model.device, self._pixel_dtype)
        return self._model.get_image_features(**inputs).pooler_output.float()

    def _text_features(self, batch: Batch, rows: list[int]) -> torch.Tensor | None:
        if not rows:
            return None
        return self._model.get_text_features(**self._text_inputs(batch, rows)).pooler_output.float()

    def _text_inputs(self, batch: Batch, rows: list[int]) -> dict[str, torch.Tensor]:
        inputs = {"input_ids": batch.ids[rows].to(self._model.device)}
        if self._family.text_mask:
            inputs["attention_mask"] = batch.mask[rows].to(self._model.device)
        return inputs

    def _through(self, heads: tuple[str, ...], states: torch.Tensor) -> np.ndarray:
        for head in heads:
            states = at_path(self._model, head)(states)
        return states.float().cpu().numpy()


def forward_of(model: Any, family: Family, tap: str, positions: str = "model") -> DualForward | LanguageForward:
    """The forward pass that fits an architecture."""
    return DualForward(model, family) if family.contrastive else LanguageForward(model, family, tap, positions)


@contextmanager
def _input_of(module: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """The input of `module` during the block, as the only entry of the list."""
    seen: list[torch.Tensor] = []
    handle = module.register_forward_pre_hook(
        lambda _, args, named: seen.append(args[0] if args else next(iter(named.values()))), with_kwargs=True
    )
    try:
        yield seen
    finally:
        handle.remove()


def _pixel_inputs(batch: Batch, device: torch.device, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    assert batch.pixels is not None
    return {
        name: tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)
        for name, tensor in batch.pixels.inputs.items()
    }


def _text_rows(batch: Batch) -> list[int]:
    return [i for i, row in enumerate(batch.rows) if "text" in row.sample.modality]


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)
