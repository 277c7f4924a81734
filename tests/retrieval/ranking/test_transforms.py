"""Every transform is its two parts: normalise((x - origin) T)."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval.ranking.transforms import CentredAt, CentredByModality, Transform, WithoutSubspace, centred_by
from analysis.retrieval.realign import fit
from tests.retrieval.planted import cloud, unit

X = cloud(40, 12, 0, common=1, dtype=np.float64)
EACH: dict[str, Transform] = {
    "without a subspace": WithoutSubspace(np.linalg.qr(np.random.default_rng(1).standard_normal((12, 3)))[0].T),
    "centred": CentredAt(X.mean(axis=0)),
    "centred by modality": centred_by(np.arange(40) % 2, {0: X[::2].mean(0), 1: X[1::2].mean(0)}, "candidates"),
    "whitened": fit(X),
}


@pytest.mark.parametrize("name", EACH)
def test_a_transform_is_affine_but_for_the_length(name: str) -> None:
    transform = EACH[name]
    rows, void = transform(X)
    assert not void.any()
    parts = np.stack([transform.linear(x[None] - transform.origin(i))[0] for i, x in enumerate(X)])
    assert rows == pytest.approx(unit(parts), abs=1e-12)
    both = transform.linear(X[:5] + 2 * X[5:10])
    assert both == pytest.approx(transform.linear(X[:5]) + 2 * transform.linear(X[5:10]), abs=1e-12)


def test_rows_of_one_modality_need_no_position() -> None:
    assert isinstance(centred_by(np.full(4, "text"), {"text": X[0], "image": X[1]}, "queries"), CentredAt)
    mixed = EACH["centred by modality"]
    assert isinstance(mixed, CentredByModality)
    with pytest.raises(RetrievalError, match="of 2 modalities"):
        mixed.origin(None)
    with pytest.raises(RetrievalError, match="came alone"):
        mixed(X[:3])
