"""Checkpoints that SAELens, dictionary_learning and sparsify wrote themselves, against what those tools computed on them
(`fixtures/make.py` says how and with which versions)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.sae.checkpoint import import_checkpoint
from analysis.sae.encode import decode, encode

FOLDERS = sorted(path for path in (Path(__file__).parent / "fixtures").iterdir() if path.is_dir())
RULES = {
    "AutoEncoder": "relu", "AutoEncoderNew": "relu", "standard": "relu", "AutoEncoderTopK": "top_k", "topk": "top_k",
    "rescaled": "top_k", "sparsify": "top_k", "GatedAutoEncoder": "gated", "gated": "gated",
}  # fmt: skip


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_codes_and_reconstructions_are_those_of_the_tool_that_wrote_it(folder: Path) -> None:
    sae = import_checkpoint(folder, backbone_width=8)
    assert sae.rule == RULES.get(folder.name.split("-")[-1], "threshold")
    with np.load(folder / "expected.npz") as expected:
        x, theirs, reconstruction = (expected[name] for name in ("x", "codes", "x_hat"))
    mine = encode(sae, x)
    norms = np.ones(sae.n_concepts) if sae.norms is None else sae.norms  # ours are lengths along unit atoms
    np.testing.assert_allclose(mine.to_csr().toarray(), theirs * norms, atol=3e-5)
    np.testing.assert_allclose(decode(sae, mine), reconstruction, atol=5e-5)


def test_every_class_that_is_read_has_a_file() -> None:
    assert len(FOLDERS) == 15
