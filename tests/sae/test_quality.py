import numpy as np
import pytest

from analysis.errors import DataError
from analysis.sae.checkpoint import Sae
from analysis.sae.encode import decode, encode
from analysis.sae.quality import reconstruction
from tests.sae import needs_overcomplete


def case(n=300):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((50, 8)).astype(np.float32)
    sae = Sae(weight, np.zeros(50, np.float32), weight, 6)
    h = (rng.standard_normal((n, 8)) + 4 * rng.standard_normal(8)).astype(np.float32)
    return sae, h, encode(sae, h)


def test_both_definitions_equal_their_formulas(monkeypatch):
    sae, h, codes = case()
    h_hat = decode(sae, codes).astype(np.float64)
    whole = reconstruction(sae, h, codes)
    monkeypatch.setattr("analysis.sae.quality.BLOCK_VALUES", 160)
    quality = reconstruction(sae, h, codes)
    error = ((h - h_hat) ** 2).sum()
    h = h.astype(np.float64)
    assert quality.r2_per_dimension == pytest.approx(1 - error / ((h - h.mean(axis=0)) ** 2).sum(), rel=1e-6)
    assert quality.r2_scalar_mean == pytest.approx(1 - error / ((h - h.mean()) ** 2).sum(), rel=1e-6)
    assert quality.r2_scalar_mean > quality.r2_per_dimension  # a common vector flatters
    assert quality.l0 == pytest.approx((codes.to_csr().toarray() > 0).sum(axis=1).mean())
    assert quality.dead_share == pytest.approx((codes.to_csr().toarray().max(axis=0) == 0).mean())
    assert quality.n == 300
    assert whole.r2_per_dimension == pytest.approx(quality.r2_per_dimension)  # blocks change nothing


def test_scalar_definition_is_overcompletes():
    import torch

    needs_overcomplete()
    from overcomplete.metrics import r2_score

    sae, h, codes = case()
    theirs = r2_score(torch.from_numpy(h), torch.from_numpy(decode(sae, codes))).item()
    assert reconstruction(sae, h, codes).r2_scalar_mean == pytest.approx(theirs, rel=1e-4)


def test_empty_constant_and_foreign_inputs():
    sae, h, codes = case()
    empty = reconstruction(sae, h[:0], codes[:0])
    assert empty.n == 0
    assert np.isnan(empty.r2_per_dimension)
    constant = np.ones((3, 8), np.float32)
    assert np.isnan(reconstruction(sae, constant, encode(sae, constant)).r2_per_dimension)
    with pytest.raises(DataError, match="do not belong"):
        reconstruction(sae, h[:5], codes)
