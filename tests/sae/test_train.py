"""Training finds planted atoms, follows its seed, and goes on after an interruption as if there had been none."""

import numpy as np
import pytest

from analysis.errors import CheckpointError, DataError
from analysis.sae import train
from analysis.sae.encode import encode
from analysis.sae.quality import reconstruction
from analysis.sae.train import TrainConfig, train_sae, untrained_sae


def mixtures(n=3000, width=24, n_atoms=20, seed=0):
    """A common vector plus three or so of 20 planted atoms: what an SAE without decoder bias has to take apart."""
    rng = np.random.default_rng(seed)
    atoms = rng.standard_normal((n_atoms, width))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    codes = (rng.random((n, n_atoms)) < 0.15) * (1 + rng.random((n, n_atoms)))
    common = rng.standard_normal(width) * 0.5
    return (codes @ atoms + common + 0.01 * rng.standard_normal((n, width))).astype(np.float32), atoms


def config(**options):
    return TrainConfig(**{"n_concepts": 64, "top_k": 5, "batch_size": 256, "steps": 40, "start": "tied", **options})


def same(a, b):
    return a.sha256 == b.sha256


def test_an_untrained_sae_is_the_start_of_the_trained_one():
    data, _ = mixtures()
    asked = config(lr=1e-12, steps=1)
    start, barely = untrained_sae(data, asked), train_sae(data, asked)
    for name in ("encoder_weight", "encoder_bias", "dictionary"):
        np.testing.assert_allclose(getattr(start, name), getattr(barely, name), atol=1e-6)
    assert (start.n_concepts, start.top_k) == (barely.n_concepts, barely.top_k)
    assert same(start, untrained_sae(data, asked))
    assert not same(start, untrained_sae(data, config(seed=1)))


def test_training_reconstructs_and_finds_the_planted_atoms():
    data, atoms = mixtures()
    sae = train_sae(data[:2500], config(steps=600, lr=3e-3, decay=0.3))
    held_out = data[2500:]
    quality = reconstruction(sae, held_out, encode(sae, held_out))
    assert quality.r2_per_dimension > 0.9
    assert np.mean((atoms @ sae.dictionary.T).max(axis=1) > 0.9) > 0.7
    curve = sae.meta["training_curve"]
    assert curve["step"][0] == 1
    assert curve["step"][-1] == 600
    assert curve["r2_scalar_mean"][-1] > curve["r2_scalar_mean"][0]
    assert sae.meta["train"]["lr"] == 3e-3


def test_the_recipe_for_pooled_vectors_passes_the_bound_of_the_app():
    data, _ = mixtures(n=4000, width=32, n_atoms=40, seed=1)
    sae = train_sae(data[:3500], TrainConfig.for_size(n_concepts=128, top_k=16, steps=400))
    quality = reconstruction(sae, data[3500:], encode(sae, data[3500:]))
    assert quality.r2_per_dimension > 0.8


def test_seed_decides_the_result():
    data, _ = mixtures(n=600)
    assert same(train_sae(data, config()), train_sae(data, config()))
    assert not same(train_sae(data, config()), train_sae(data, config(seed=1)))


@pytest.mark.parametrize("aux", [0.0, 1 / 32])
def test_interrupted_training_ends_as_an_uninterrupted_one(tmp_path, monkeypatch, aux):
    monkeypatch.setattr(train, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(train, "SAVE_SPACING", 0)
    data, _ = mixtures(n=600)
    options = config(aux=aux, dead_after=5, aux_k=4)
    whole = train_sae(data, options)

    def stop(done, total):
        assert total == 40
        if done == 23:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_sae(data, options, progress=stop, checkpoint_dir=tmp_path / "work")
    assert (tmp_path / "work" / train.STATE_FILE).is_file()
    seen = []
    resumed = train_sae(data, options, progress=lambda done, _: seen.append(done), checkpoint_dir=tmp_path / "work")
    assert 20 < seen[0] <= 24
    assert same(resumed, whole)
    assert resumed.meta == whole.meta
    assert not any((tmp_path / "work").iterdir())


def test_state_of_another_run_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(train, "SAVE_SPACING", 0)
    data, _ = mixtures(n=600)

    def stop(done, _total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_sae(data, config(), progress=stop, checkpoint_dir=tmp_path)
    with pytest.raises(CheckpointError, match="other data or settings"):
        train_sae(data, config(lr=1e-3), checkpoint_dir=tmp_path)
    with pytest.raises(CheckpointError, match="other data or settings"):
        train_sae(data[::-1], config(), checkpoint_dir=tmp_path)
    (tmp_path / train.STATE_FILE).write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="cannot be read"):
        train_sae(data, config(), checkpoint_dir=tmp_path)


def test_lists_functions_and_memory_maps_serve_as_data(tmp_path):
    data, _ = mixtures(n=512)
    pieces = [data[:256], data[256:]]
    from_list = train_sae(pieces, config(steps=None, epochs=3))
    assert from_list.meta["training_curve"]["step"][-1] == 6
    assert same(from_list, train_sae(lambda epoch: iter(pieces), config(steps=6)))
    np.save(tmp_path / "data.npy", data)
    mapped = np.load(tmp_path / "data.npy", mmap_mode="r")
    assert same(train_sae(mapped, config(steps=4)), train_sae(data, config(steps=4)))


def test_unusable_data_is_one_sentence():
    data, _ = mixtures(n=300)
    generator = (data[i : i + 100] for i in range(0, 300, 100))
    with pytest.raises(DataError, match="ended after"):
        train_sae(generator, config(steps=10))
    with pytest.raises(DataError, match="number of batches is unknown"):
        train_sae(lambda epoch: iter([data]), config(steps=None))
    with pytest.raises(DataError, match=r"\(0, 24\)"):
        train_sae(data[:0], config())
    with pytest.raises(DataError, match="no batch"):
        train_sae([], config())
    with pytest.raises(DataError, match=r"Batch 1 has shape \(5, 3\)"):
        train_sae([data, np.ones((5, 3), np.float32)], config(steps=4))
    broken = data.copy()
    broken[200:, 3] = np.inf
    with pytest.raises(DataError, match="holds NaN or infinity"):
        train_sae(broken, config())
    with pytest.raises(DataError, match="at update 2 of 3: the data is not finite"):
        train_sae([data, broken], config(steps=3))
    with pytest.raises(DataError, match="too large for float32"):
        train_sae(data * np.float32(1e22), config())


@pytest.mark.parametrize("options", [{"top_k": 65}, {"start": "best"}, {"steps": 0}, {"decay": 2.0}, {"lr": 0.0}])
def test_unusable_settings_are_refused(options):
    with pytest.raises(CheckpointError, match="cannot be trained"):
        config(**options)


def test_large_dictionaries_get_the_papers_recipe():
    paper = TrainConfig.for_size(n_concepts=32768, top_k=50)
    assert paper == TrainConfig()
    assert (paper.lr, paper.batch_size, paper.l1, paper.aux, paper.decay) == (8e-4, 4096, 1e-2, 0.0, 0.0)
