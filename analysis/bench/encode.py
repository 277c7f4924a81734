"""Codes of many embeddings: ours against overcomplete's `encode`, which makes the dense code of every batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from analysis.bench.measuring import Row, compare
from analysis.bench.synthetic import activations, dictionary
from analysis.sae.checkpoint import Sae
from analysis.sae.encode import encode

WIDTH, N_CONCEPTS, TOP_K, N, BATCH = 512, 7168, 50, 32768, 4096


def run(quick: bool = False) -> Iterator[Row]:
    width, n_concepts, n, batch = (64, 512, 2048, 512) if quick else (WIDTH, N_CONCEPTS, N, BATCH)
    h = activations(n, width, seed=4)
    atoms = dictionary(n_concepts, width, seed=4)
    bias = np.random.default_rng(4).normal(-0.1, 0.1, n_concepts)
    sae = Sae(atoms, bias, atoms, TOP_K)
    theirs = _overcomplete(sae)
    encode(sae, h[:512])  # compiles the kernels

    def dense() -> None:
        for start in range(0, n, batch):
            theirs(h[start : start + batch])  # the dense code is dropped: keeping all would take N x K floats

    row = compare(
        "encode", "encode_d512_k7168_vs_overcomplete", lambda: encode(sae, h, batch_size=batch), dense,
        name="overcomplete TopKSAE.encode, no gradient",
    )  # fmt: skip
    first = h[:batch]
    mine, other = encode(sae, first).to_csr().toarray(), theirs(first)
    same = float(((mine > 0) == (other > 0)).all(axis=1).mean())
    note = (
        f"N {n:,}, batch {batch}, top_k {TOP_K}, allocator not tuned; rows with the same concepts: {100 * same:.2f} %"
    )
    yield replace(row, note=f"quick: D {width}, K {n_concepts}, {note}" if quick else note)


def _overcomplete(sae: Sae):
    import torch
    from overcomplete.sae import TopKSAE

    model = TopKSAE(sae.dictionary.shape[1], nb_concepts=sae.n_concepts, top_k=sae.top_k, device="cpu")
    with torch.no_grad():
        linear = model.encoder.final_block[0]
        linear.weight.copy_(torch.from_numpy(sae.encoder_weight))
        linear.bias.copy_(torch.from_numpy(sae.encoder_bias))
    model.eval()

    @torch.no_grad()
    def codes(h: np.ndarray) -> np.ndarray:
        return model.encode(torch.from_numpy(h))[1].numpy()

    return codes
