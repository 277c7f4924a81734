"""From embeddings to codes and back: z = rule(h W^T + b), h_hat = z D + bias. The paper's (eq. 1) is TopK(ReLU(h W^T + b)),
without a decoder bias."""

from __future__ import annotations

import numpy as np

from analysis.errors import DataError
from analysis.sae.codes import Codes
from analysis.sae.form import Sae, has_threshold, scores

FEW_ROWS = 256  # up to here NumPy alone is fastest, and a live page needs neither torch nor numba
FEW_PRODUCTS = 2**24  # N * k * D of decode, likewise


def encode(sae: Sae, h: np.ndarray, *, batch_size: int = 4096, device: str = "cpu") -> Codes:
    """Codes of un-normalised embeddings h (N, D): at most top_k positive entries a row, the largest first.

    Exact in float32: the same concepts as sorting the whole row, up to float32 rounding at the edge of the top_k.
    What `sae.threshold` does not let pass is left out; of more than top_k that pass the largest are kept. N = 0 gives
    empty codes. h may be a memory map of any float type; it is read `batch_size` rows at a time, and nothing of size
    N x K is made. `device` is "cpu" or a torch device. Raises DataError if the width of h is not the SAE's
    or a row holds NaN or infinity.
    """
    h = np.asanyarray(h)
    if h.ndim != 2 or h.shape[1] != sae.width:
        raise DataError(
            f"Embeddings have shape {h.shape}; expected (N, {sae.width}), the width of the SAE: "
            "were they made with another backbone or pooled over the wrong axis?"
        )
    k = min(sae.top_k, sae.n_concepts)
    indices, values = np.zeros((len(h), k), np.int32), np.zeros((len(h), k), np.float32)
    block = _encoder(sae, len(h), device)
    for lo in range(0, len(h), batch_size):
        rows = np.ascontiguousarray(h[lo : lo + batch_size], np.float32)
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            raise DataError(
                f"Row {lo + int(finite.argmin())} of the embeddings holds NaN or infinity; expected finite numbers: "
                "embed that sample again, in bfloat16 or float32 rather than float16."
            )
        block(rows, indices[lo : lo + len(rows)], values[lo : lo + len(rows)])
    if has_threshold(sae):
        values[values < (sae.threshold[indices] if isinstance(sae.threshold, np.ndarray) else sae.threshold)] = 0
    indices[values == 0] = 0
    norms = getattr(sae, "norms", None)  # what has the fields of the paper's SAE alone can be encoded with, too
    if norms is not None:
        values *= norms[indices]
        order = np.argsort(-values, axis=1, kind="stable")
        indices, values = np.take_along_axis(indices, order, axis=1), np.take_along_axis(values, order, axis=1)
    return Codes(indices, values, sae.n_concepts)


def decode(sae: Sae, codes: Codes) -> np.ndarray:
    """h_hat = z D + bias, (N, D) float32."""
    if codes.indices.size * sae.width <= FEW_PRODUCTS:
        out = np.asarray(codes.to_csr() @ sae.dictionary, np.float32)
    else:
        from analysis.jit import over_rows
        from analysis.sae import kernels

        out = np.empty((len(codes), sae.width), np.float32)
        over_rows(kernels.decode, len(codes), codes.indices, codes.values, sae.dictionary, out)
    bias = getattr(sae, "bias", None)
    if bias is not None:
        out += bias
    return out


def _encoder(sae: Sae, n: int, device: str):
    """A function (rows, indices, values) that fills the codes of a block of rows."""
    if device != "cpu":
        return _on_device(sae, device)
    if n <= FEW_ROWS:
        return lambda rows, indices, values: _few(sae, rows, indices, values)
    from analysis.jit import over_rows
    from analysis.sae import kernels
    from analysis.sae.topk import TopK

    thresholds = sae.threshold if isinstance(sae.threshold, np.ndarray) else None
    select = TopK(sae.encoder_weight, sae.encoder_bias, sae.top_k, thresholds=thresholds)

    def block(rows: np.ndarray, indices: np.ndarray, values: np.ndarray) -> None:
        select(rows, indices, values)
        over_rows(kernels.sort_rows, len(rows), indices, values)

    return block


def _few(sae: Sae, rows: np.ndarray, indices: np.ndarray, values: np.ndarray) -> None:
    k = values.shape[1]
    found = scores(sae, rows)
    top = np.argpartition(found, sae.n_concepts - k, axis=1)[:, sae.n_concepts - k :].astype(np.int32)
    found = np.take_along_axis(found, top, axis=1)
    order = np.lexsort((top, -found), axis=1)
    indices[:] = np.take_along_axis(top, order, axis=1)
    values[:] = np.take_along_axis(found, order, axis=1)


def _on_device(sae: Sae, device: str):
    import torch

    weight = torch.from_numpy(sae.encoder_weight).to(device)
    bias = torch.from_numpy(sae.encoder_bias).to(device)
    per_concept = isinstance(sae.threshold, np.ndarray)
    thresholds = torch.from_numpy(sae.threshold).to(device) if per_concept else None

    @torch.inference_mode()
    def block(rows: np.ndarray, indices: np.ndarray, values: np.ndarray) -> None:
        scores = torch.addmm(bias, torch.from_numpy(rows).to(device), weight.T)
        if thresholds is not None:
            scores[scores < thresholds] = 0
        top = scores.topk(values.shape[1], dim=1)
        indices[:] = top.indices.cpu().numpy()
        values[:] = top.values.relu().cpu().numpy()

    return block
