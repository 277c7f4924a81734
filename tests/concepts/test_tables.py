"""Postings, neighbours, words and the map: what a store keeps beside the scores."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from analysis.concepts import neighbours
from analysis.concepts.map2d import concept_map
from analysis.concepts.names import words_of
from analysis.concepts.neighbours import nearest_concepts
from analysis.concepts.postings import build_postings
from analysis.errors import DataError
from analysis.sae.codes import Codes


def random_codes(rng, n=80, k=5, n_concepts=30):
    indices = np.argsort(rng.random((n, n_concepts)), axis=1)[:, :k].astype(np.int32)
    values = np.round(rng.gamma(1, 1, (n, k)), 1).astype(np.float32)  # rounded: ties and zeros occur
    return Codes(indices, values, n_concepts)


def unit(rng, n, width):
    atoms = rng.standard_normal((n, width)).astype(np.float32)
    return atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


def test_postings_list_every_activation_strongest_first():
    codes = random_codes(np.random.default_rng(0))
    dense = codes.to_csr().toarray()
    postings = build_postings(codes)
    assert postings.offsets[-1] == (dense > 0).sum() == len(postings.values)
    for concept in range(30):
        rows, values = postings.rows(concept)
        active = np.flatnonzero(dense[:, concept])
        expected = sorted(active, key=lambda row: (-dense[row, concept], row))
        assert rows.tolist() == expected
        np.testing.assert_array_equal(values, dense[expected, concept])


def test_postings_of_nothing():
    empty = build_postings(Codes(np.zeros((0, 3), np.int32), np.zeros((0, 3), np.float32), 4))
    assert empty.offsets.tolist() == [0] * 5
    assert len(empty.rows(2)[0]) == 0


@pytest.mark.parametrize("block_values", [2**23, 100])
def test_neighbours_are_those_of_the_full_matrix(block_values, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK_VALUES", block_values)
    atoms = unit(np.random.default_rng(1), 40, 6)
    cosine = atoms @ atoms.T
    np.fill_diagonal(cosine, -2)
    np.testing.assert_array_equal(nearest_concepts(atoms, m=7), np.argsort(-cosine, axis=1, kind="stable")[:, :7])
    assert nearest_concepts(atoms, m=0).shape == (40, 0)
    with pytest.raises(DataError, match="fewer than all"):
        nearest_concepts(atoms, m=40)


def test_words_leave_out_articles_and_punctuation():
    assert words_of("The Zebra's 2 foals -- and a ZEBRA.") == ["zebra", "2", "foals", "zebra"]
    assert words_of("There are several of them in front of one picture, between those above it") == []


@pytest.fixture
def uncompiled(monkeypatch):
    """What UMAP does before its layout, as Python: the same code on 80 concepts takes less than to compile it, 20 s. Its loops
    take all cores, and torch would take them too from then on, whatever OMP_NUM_THREADS says."""
    from umap import umap_

    for name, found in vars(umap_).copy().items():
        if hasattr(found, "py_func"):
            monkeypatch.setattr(umap_, name, found.py_func)
    with threadpool_limits(1, user_api="openmp"):  # put back at the end
        yield


def test_map_places_living_concepts_only_and_follows_its_seed(uncompiled):
    rng = np.random.default_rng(4)
    centres = unit(rng, 2, 10)
    atoms = np.repeat(centres, 40, axis=0) + 0.1 * rng.standard_normal((80, 10)).astype(np.float32)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    alive = np.ones(80, bool)
    alive[[3, 50]] = False
    for method in ("pca", "umap"):
        position = concept_map(atoms, alive=alive, seed=1, method=method)
        assert np.isnan(position[~alive]).all()
        assert np.isfinite(position[alive]).all()
        np.testing.assert_array_equal(position, concept_map(atoms, alive=alive, seed=1, method=method))
        one, two = position[:40][alive[:40]], position[40:][alive[40:]]
        gap = np.linalg.norm(one.mean(axis=0) - two.mean(axis=0))
        assert gap > 2 * max(one.std(), two.std()) / np.sqrt(2)
    with pytest.raises(DataError, match="umap, pca"):
        concept_map(atoms, alive=alive, method="tsne")


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_map_of_few_concepts(n):
    position = concept_map(unit(np.random.default_rng(5), 5, 4), alive=np.arange(5) < n)
    assert np.isfinite(position).all(axis=1).sum() == n
    assert len(np.unique(position[:n], axis=0)) == n


def test_concept_modules_load_no_heavy_library():
    import subprocess
    import sys

    code = (
        "import sys, pkgutil, importlib, analysis.concepts as package\n"
        "for module in pkgutil.iter_modules(package.__path__):\n"
        "    if not module.name.endswith('kernels'):\n"
        "        importlib.import_module('analysis.concepts.' + module.name)\n"
        "print(sorted({'torch', 'numba', 'umap', 'sklearn', 'transformers', 'streamlit'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
