"""sparsify (eai-sparsify 1.3, `sparse_coder.py`): a folder with cfg.json and sae.safetensors.

z = the k largest of relu((h - b_dec) W^T + b); h_hat = z W_dec + b_dec.
"""

from __future__ import annotations

from analysis.errors import CheckpointError
from analysis.sae.formats.files import Checkpoint
from analysis.sae.formats.found import Foreign, Tensors, array, missing, oriented, whole

TOOL = "sparsify"


def recognises(tensors: Tensors, _: Checkpoint) -> bool:
    return "encoder.weight" in tensors and "W_dec" in tensors


def read(tensors: Tensors, checkpoint: Checkpoint, *, rule: str | None, delta: float | None) -> Foreign:
    name, config = checkpoint.name, checkpoint.config
    missing(name, tensors, ("encoder.bias", "b_dec"), TOOL)
    if config.get("transcode") or config.get("skip_connection") or "W_skip" in tensors:
        raise CheckpointError(
            f"{name} is a transcoder or has a skip connection: it predicts another layer than it reads, so it has no "
            "reconstruction of the embedding; choose an SAE of sparsify (transcode false, skip_connection false)."
        )
    if not config:
        raise CheckpointError(f"cfg.json is not beside {name}, and k and the kind of coder stand there: copy both.")
    if config.get("activation", "topk") != "topk":
        raise CheckpointError(
            f"{name} selects by {config['activation']!r}, one concept of each group; only the k largest of all can be read."
        )
    weight, bias = array(name, tensors, "encoder.weight", ndim=2), array(name, tensors, "encoder.bias", ndim=1)
    shift = array(name, tensors, "b_dec", ndim=1)
    return Foreign(
        TOOL,
        *(weight, bias - weight @ shift),
        oriented(array(name, tensors, "W_dec", ndim=2), len(bias)),
        top_k=whole(config.get("k")),
        bias=shift,
        meta={"encoder": "top_k"},
    )
