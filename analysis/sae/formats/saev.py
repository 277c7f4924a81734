"""saev (OSU NLP, schemas 2 to 5, `nn/modeling.py`): one sae.pt, a line of JSON and then a torch zip.

z = activation(h W_enc + b_enc), without subtracting b_dec; h_hat = z W_dec + b_dec.
"""

from __future__ import annotations

from typing import Any

from analysis.errors import CheckpointError
from analysis.sae.form import RELU, THRESHOLD, TOP_K
from analysis.sae.formats.files import Checkpoint
from analysis.sae.formats.found import Foreign, Tensors, above, array, missing, number, oriented, whole

TOOL = "saev"
SCHEMAS = (2, 3, 4, 5)
SIGNED = "saev's TopK keeps negative scores where fewer than k are positive; they are 0 here, because codes here have no sign."


def recognises(tensors: Tensors, checkpoint: Checkpoint) -> bool:
    return bool(checkpoint.header) and "W_enc" in tensors


def read(tensors: Tensors, checkpoint: Checkpoint, *, rule: str | None, delta: float | None) -> Foreign:
    name, header = checkpoint.name, checkpoint.header
    if header.get("schema") not in SCHEMAS:
        raise CheckpointError(
            f"{name} has saev's schema {header.get('schema', 'before 1')!r}; {SCHEMAS[0]} to {SCHEMAS[-1]} are read: load it "
            "with saev and dump it again."
        )
    missing(name, tensors, ("W_enc", "b_enc", "W_dec", "b_dec"), TOOL)
    activation = (header.get("cfg") or {}).get("activation") or {}
    kind, params = activation.get("cls"), activation.get("params") or {}
    bias = array(name, tensors, "b_enc", ndim=1)
    found: dict[str, Any] = {"top_k": whole(params.get("top_k")), "meta": {"encoder": str(kind)}}
    if kind == "Relu":
        found |= {"rule": RELU}
    elif kind == "TopK":
        found |= {"rule": TOP_K, "notes": (SIGNED,)}
    elif kind == "BatchTopK":
        least = number(tensors.get("activation.threshold"))
        found |= {"rule": THRESHOLD, "threshold": None if least is None else above(max(least, 0.0))}
    else:
        raise CheckpointError(f"{name} has saev's activation {kind!r}; Relu, TopK and BatchTopK are read.")
    return Foreign(
        TOOL,
        *(oriented(array(name, tensors, "W_enc", ndim=2).T, len(bias)), bias),
        oriented(array(name, tensors, "W_dec", ndim=2), len(bias)),
        bias=array(name, tensors, "b_dec", ndim=1),
        **found,
    )
