"""The vision towers of Qwen2-VL and Qwen3-VL on whole batches of equal pictures: the same numbers as the ordinary path, faster.

The ordinary path runs attention picture by picture and its patch embedding as a 3-D convolution over two equal frames.
Training and the evaluation between stages use this module; everything else uses the model's own forward.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision  # Qwen3-VL's is the same

from analysis.data.emoji_grounds import SIDE
from analysis.demo.architectures import IMAGE_TOKENS, MERGE, PATCH
from analysis.demo.contrastive import pixel_values

GRID = SIDE // PATCH  # patches a side: 6


def patchify(pictures: np.ndarray, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """(B, SIDE, SIDE, 3) uint8 -> (B, 36, 3, PATCH, PATCH) in the order of the processor: 2 x 2 blocks stay together.

    The processor's `pixel_values` repeat every patch for a second frame; `repeat_frames` restores that form.
    """
    blocks = GRID // MERGE
    split = pixel_values(pictures, mean, std).reshape(-1, 3, blocks, MERGE, PATCH, blocks, MERGE, PATCH)
    return split.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(-1, GRID * GRID, 3, PATCH, PATCH)


def repeat_frames(patches: torch.Tensor) -> torch.Tensor:
    """(B, 36, 3, P, P) -> (B * 36, 3 * 2 * P * P), the processor's `pixel_values`."""
    return patches.unsqueeze(3).expand(-1, -1, -1, 2, -1, -1).reshape(-1, 3 * 2 * PATCH * PATCH)


def vision_tokens(visual: Any, patches: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """(B, 36, 3, P, P) -> (B, 9, D), what `visual(pixel_values, grid_thw).pooler_output` gives for these pictures, and as
    many of its `deepstack_features` (B, 9, D) as the tower has: Qwen2-VL's has none."""
    kernel = visual.patch_embed.proj.weight.sum(2)  # both frames are the same picture
    hidden = F.linear(patches.flatten(2), kernel.flatten(1), visual.patch_embed.proj.bias)
    if hasattr(visual, "pos_embed"):
        hidden = hidden + visual.pos_embed(_positions() @ torch.tensor([GRID, 1]))
    rotation = visual.rotary_pos_emb(hidden, _positions())
    deeper = []
    for number, block in enumerate(visual.blocks):
        hidden = hidden + _attention(block.attn, block.norm1(hidden), rotation)
        hidden = hidden + block.mlp(block.norm2(hidden))
        if number in (taken := getattr(visual, "deepstack_visual_indexes", ())):
            deeper.append(visual.deepstack_merger_list[list(taken).index(number)](hidden))
    batch = len(patches)
    return visual.merger(hidden).view(batch, IMAGE_TOKENS, -1), [one.view(batch, IMAGE_TOKENS, -1) for one in deeper]


def _attention(attention: Any, hidden: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    batch, length, _ = hidden.shape
    query, key, value = attention.qkv(hidden).view(batch, length, 3, attention.num_heads, -1).unbind(2)
    query, key = apply_rotary_pos_emb_vision(query, key, *rotation)
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    mixed = F.scaled_dot_product_attention(query, key, value)
    return attention.proj(mixed.transpose(1, 2).reshape(batch, length, -1))


def _positions() -> torch.Tensor:
    """(36, 2) row and column of every patch, in block order."""
    rows = torch.arange(GRID)[:, None].expand(GRID, GRID)
    blocks = GRID // MERGE
    order = [axis.reshape(blocks, MERGE, blocks, MERGE).permute(0, 2, 1, 3).flatten() for axis in (rows, rows.T)]
    return torch.stack(order, dim=-1)
