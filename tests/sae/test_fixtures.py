"""Checkpoints that SAELens, dictionary_learning and sparsify wrote themselves, against what those tools computed on them
(`fixtures/make.py` says how and with which versions)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.sae.checkpoint import import_checkpoint
from analysis.sae.encode import decode, encode
from tests.sae.foreign import CASES

TABLE = Path(__file__).parents[2] / "docs" / "saes.md"
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


def test_the_table_of_formats_names_every_case_and_its_rule() -> None:
    """docs/saes.md, "tool | variant | result": what is read there is what is tested here."""
    rows = [line.split("|")[1:4] for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    said = {f"{tool.strip()} {variant.strip()}": result.strip() for tool, variant, result in rows}
    for case in CASES:
        assert said.get(case.name, "").startswith("read"), case.name
        if ", rule " in said[case.name]:
            assert f"rule {case.rule}" in said[case.name], case.name
