"""Encoding is exact: the same codes as sorting every row in float64, on every path; decoding is the dense product."""

import numpy as np
import pytest

from analysis.errors import DataError
from analysis.sae.checkpoint import Sae
from analysis.sae.codes import Codes
from analysis.sae.encode import FEW_ROWS, decode, encode
from analysis.sae.quality import reconstruction
from analysis.sae.topk import TopK


def random_sae(rng, n_concepts, width, top_k, bias=0.0, **options):
    weight, dictionary = rng.standard_normal((2, n_concepts, width)).astype(np.float32)
    offset = (rng.standard_normal(n_concepts) * 0.3 + bias).astype(np.float32)
    return Sae(weight, offset, dictionary, top_k, **options)


def dense_codes(sae, h):
    """The definition, in float64."""
    scores = np.maximum(h.astype(np.float64) @ sae.encoder_weight.T.astype(np.float64) + sae.encoder_bias, 0)
    edge = np.sort(scores, axis=1)[:, -sae.top_k][:, None]
    return np.where((scores >= edge) & (scores > sae.threshold), scores, 0)


@pytest.mark.parametrize("rows", [3, FEW_ROWS + 50])
@pytest.mark.parametrize(
    ("n_concepts", "top_k", "bias"), [(500, 16, 0), (33, 5, 0), (600, 40, -20), (64, 64, 0), (7, 1, 0)]
)
def test_codes_equal_the_dense_definition(rows, n_concepts, top_k, bias):
    rng = np.random.default_rng(0)
    sae = random_sae(rng, n_concepts, 24, top_k, bias)
    h = rng.standard_normal((rows, 24)).astype(np.float32) * 2
    codes = encode(sae, h)
    np.testing.assert_allclose(codes.to_csr().toarray(), dense_codes(sae, h), atol=2e-5)
    assert codes.indices.dtype == np.int32
    assert codes.values.dtype == np.float32
    assert (np.diff(codes.values, axis=1) <= 0).all()  # the largest first
    if bias:
        assert (codes.values == 0).any()  # rows with fewer than top_k positive entries occur


def test_random_shapes_agree_with_and_without_bfloat16():
    """Both ways of selecting, on hard rows: near ties, large common offsets, outlying concepts, no positive entry."""
    rng = np.random.default_rng(1)
    for _ in range(25):
        n_concepts, width, k, n = (int(rng.integers(lo, hi)) for lo, hi in ((2, 900), (1, 90), (1, 70), (1, 60)))
        k = min(k, n_concepts)
        weight = rng.standard_normal((n_concepts, width)).astype(np.float32)
        weight[rng.random(n_concepts) < 0.1] *= 30
        weight[rng.random(n_concepts) < 0.2] = weight[0] * np.float32(1.0005)
        bias = (rng.standard_normal(n_concepts) * rng.choice([0, 1, 20])).astype(np.float32)
        x = (rng.standard_normal((n, width)) + rng.choice([0, 5])).astype(np.float32)
        x[0] = 0
        exact = np.maximum(x.astype(np.float64) @ weight.T.astype(np.float64) + bias, 0)
        expected = np.sort(exact, axis=1)[:, ::-1][:, :k]
        for bfloat16 in (False, True):
            indices, values = np.zeros((n, k), np.int32), np.zeros((n, k), np.float32)
            TopK(weight, bias, k, bfloat16=bfloat16)(x, indices, values)
            scale = np.abs(exact).max() + 1e-6
            np.testing.assert_allclose(np.sort(values, axis=1)[:, ::-1], expected, atol=3e-6 * scale)
            used = values > 0
            np.testing.assert_allclose(values[used], np.take_along_axis(exact, indices, 1)[used], atol=3e-6 * scale)
            for row in range(n):
                assert len(set(indices[row][used[row]])) == used[row].sum()


def test_batches_and_storage_type_do_not_change_codes(tmp_path):
    rng = np.random.default_rng(2)
    sae = random_sae(rng, 300, 16, 8)
    h = rng.standard_normal((700, 16)).astype(np.float16)
    np.save(tmp_path / "h.npy", h)
    whole = encode(sae, h.astype(np.float32))
    mapped = encode(sae, np.load(tmp_path / "h.npy", mmap_mode="r"), batch_size=97)
    np.testing.assert_array_equal(mapped.indices, whole.indices)
    np.testing.assert_allclose(mapped.values, whole.values, rtol=1e-5)


def test_device_path_gives_the_same_codes():
    """`device` other than "cpu" goes through torch; torch's own name for the processor shows that path here."""
    rng = np.random.default_rng(3)
    sae = random_sae(rng, 200, 10, 6, bias=-3)
    h = rng.standard_normal((40, 10)).astype(np.float32)
    there, here = encode(sae, h, device="cpu:0"), encode(sae, h)
    np.testing.assert_array_equal(there.indices, here.indices)
    np.testing.assert_allclose(there.values, here.values, atol=1e-5)


def test_threshold_drops_small_codes():
    rng = np.random.default_rng(4)
    sae = random_sae(rng, 100, 10, 20, threshold=2.5)
    codes = encode(sae, rng.standard_normal((50, 10)).astype(np.float32))
    active = codes.values[codes.values > 0]
    assert active.min() >= 2.5
    assert 0 < active.size < codes.values.size


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
@pytest.mark.parametrize("rows", [9, FEW_ROWS + 50])
def test_what_a_threshold_stops_takes_no_place_from_what_passes(rows, device):
    """A cap below the number of active concepts: the largest of those that pass, each times its norm."""
    rng = np.random.default_rng(8)
    thresholds, norms = rng.uniform(0, 6, 100).astype(np.float32), rng.uniform(0.2, 4, 100).astype(np.float32)
    sae = random_sae(rng, 100, 10, 7, threshold=thresholds, rule="threshold", norms=norms)
    h = rng.standard_normal((rows, 10)).astype(np.float32)
    scores = h.astype(np.float64) @ sae.encoder_weight.T.astype(np.float64) + sae.encoder_bias
    passing = np.where(scores >= thresholds, np.maximum(scores, 0), 0)
    edge = np.sort(passing, axis=1)[:, -7][:, None]
    codes = encode(sae, h, device=device)
    np.testing.assert_allclose(codes.to_csr().toarray(), np.where(passing >= edge, passing, 0) * norms, atol=2e-4)
    assert (np.diff(codes.values, axis=1) <= 0).all()
    measured = reconstruction(sae, h, codes).cut_share
    assert measured == pytest.approx(1 - np.count_nonzero(codes.values) / np.count_nonzero(passing))
    assert measured > 0


@pytest.mark.parametrize("rows", [0, 1])
def test_empty_and_single_inputs(rows):
    sae = random_sae(np.random.default_rng(5), 20, 4, 3)
    codes = encode(sae, np.ones((rows, 4), np.float32))
    assert codes.indices.shape == (rows, 3)
    assert decode(sae, codes).shape == (rows, 4)


def test_wrong_width_and_nan_are_named():
    sae = random_sae(np.random.default_rng(6), 20, 4, 3)
    with pytest.raises(DataError, match=r"\(2, 5\); expected \(N, 4\)"):
        encode(sae, np.ones((2, 5), np.float32))
    for rows in (10, 600):
        h = np.ones((rows, 4), np.float32)
        h[7, 2] = np.nan
        with pytest.raises(DataError, match="Row 7"):
            encode(sae, h, batch_size=4)


@pytest.mark.parametrize("rows", [20, 5000])
def test_decode_is_the_dense_product(rows, monkeypatch):
    monkeypatch.setattr("analysis.sae.encode.FEW_PRODUCTS", 100_000)  # 5000 rows take the compiled path
    rng = np.random.default_rng(7)
    sae = random_sae(rng, 60, 8, 4)
    indices = np.argsort(rng.random((rows, 60)), axis=1)[:, :4].astype(np.int32)
    values = np.maximum(rng.standard_normal((rows, 4)), 0).astype(np.float32)
    codes = Codes(indices, values, 60)
    dense = np.zeros((rows, 60))
    np.put_along_axis(dense, indices, values, axis=1)
    np.testing.assert_allclose(decode(sae, codes), dense @ sae.dictionary, atol=1e-5)


def test_few_rows_import_neither_torch_nor_numba():
    import subprocess
    import sys

    code = (
        "import sys, numpy as np\n"
        "from analysis.sae.checkpoint import Sae\n"
        "from analysis.sae.encode import decode, encode\n"
        "w = np.eye(8, dtype=np.float32)\n"
        "sae = Sae(w, np.zeros(8, np.float32), w, 2)\n"
        "decode(sae, encode(sae, w[:1]))\n"
        "print({'torch', 'numba'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"
