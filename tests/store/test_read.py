"""What was written is what is read; what is missing or damaged is one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from analysis.errors import StoreError
from analysis.sae.checkpoint import save_sae
from analysis.store import find_stores, open_store
from tests.store.tamper import copy_of, edit_manifest, table
from tests.synthetic_store import BRIDGE, IMAGE_ONLY, TEXT_ONLY, make_store


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("cache"), tokens=True)


@pytest.fixture
def copy(path: Path, tmp_path: Path) -> Path:
    return copy_of(path, tmp_path / "cache")


def test_samples_and_arrays_agree_in_length(path: Path) -> None:
    store = open_store(path)
    assert len(store.samples) == store.n_samples == 120
    assert store.embeddings().shape == (120, store.width) == (120, 48)
    assert store.embeddings().dtype == np.float32
    assert len(store.concepts) == store.n_concepts == 32
    assert store.n_concepts == store.codes.n_concepts


def test_postings_are_the_codes_by_concept(path: Path) -> None:
    store = open_store(path)
    dense = store.codes.to_csr().toarray()
    for concept in range(store.n_concepts):
        rows, values = store.postings.rows(concept)
        assert sorted(rows) == np.flatnonzero(dense[:, concept]).tolist()
        assert values == pytest.approx(dense[rows, concept])
        assert (np.diff(values) <= 0).all()


def test_planted_concepts_come_back(path: Path) -> None:
    table = open_store(path).concepts
    assert table["modality_score"][IMAGE_ONLY] == 0
    assert table["modality_score"][TEXT_ONLY] == 1
    assert table["bridge_diagonal"].idxmax() == BRIDGE
    assert np.isnan(table["modality_score"].iloc[-1])


def test_some_rows_come_in_the_order_asked_for(path: Path) -> None:
    store = open_store(path)
    rows = np.asarray([7, 3, 99])
    assert np.array_equal(store.embeddings("last", rows), store.embeddings("last")[rows])


def test_variant_of_pictures_only_falls_back_to_mean(path: Path) -> None:
    store = open_store(path)
    masked, mean = store.embeddings("mean_no_image"), store.embeddings("mean")
    pictures = (store.samples["modality"] == "image").to_numpy()
    assert np.array_equal(masked[~pictures], mean[~pictures])
    assert not np.isclose(masked[pictures], mean[pictures]).any(axis=1).all()
    rows = np.asarray([4, 3, 0, 5])
    assert np.array_equal(store.embeddings("mean_no_image", rows), masked[rows])


def test_variants_begin_with_mean_and_unknown_ones_are_refused(path: Path) -> None:
    store = open_store(path)
    assert store.variants == ("mean", "last", "mean_no_image")
    with pytest.raises(StoreError, match=r"mean_no_prompt.*only mean, last"):
        store.embeddings("mean_no_prompt")


def test_task_joins_queries_with_their_own_captions(path: Path) -> None:
    store = open_store(path)
    task = store.task("i2t")
    pairs = store.samples["pair_id"].to_numpy()
    query, candidate = task.qrels.nonzero()
    assert (pairs[task.query_rows[query]] == pairs[task.candidate_rows[candidate]]).all()
    assert task.qrels.nnz == 80
    with pytest.raises(StoreError, match="no task 'i2i'; it has i2t, t2i"):
        store.task("i2i")


def test_token_views_exist_for_some_samples(path: Path) -> None:
    store = open_store(path)
    picture, caption = (store.token_view(row) for row in store.token_rows)
    assert picture is not None
    assert picture.grid == (2, 2)
    assert caption is not None
    assert caption.grid is None
    assert caption.strings[1:-1] == store.samples["text"][1].split()
    assert store.token_view(50) is None


def test_store_without_tokens_has_no_token_views(tmp_path: Path) -> None:
    store = open_store(make_store(tmp_path, tokens=False))
    assert len(store.token_rows) == 0
    assert store.token_view(0) is None


@pytest.mark.parametrize("name", ["codes/values.npy", "samples.parquet", "embeddings/mean.npy"])
def test_truncated_file_is_named(copy: Path, name: str) -> None:
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(StoreError, match=f"{name}.*bytes.*truncated or altered"):
        open_store(copy)


def test_missing_file_is_named(copy: Path) -> None:
    table(copy, "neighbours.npy").unlink()
    with pytest.raises(StoreError, match=r"lacks .*neighbours\.npy"):
        open_store(copy)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a store manifest"),
        ("[1, 2]", "not a store manifest"),
        ("null", "not a store manifest"),
        ('{"schema": 99}', "schema 99.*reads up to 2.*update"),
        ('{"schema": 1}', "lacks a part of the contract"),
        ('{"schema": 1, "config": {}, "files": {"a": {"size": 1}}}', "lacks a part of the contract"),
    ],
)
def test_manifest_that_is_none_is_one_sentence(copy: Path, text: str, words: str) -> None:
    (copy / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match=words):
        open_store(copy)


def test_folder_without_manifest_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"not a store.*python -m analysis"):
        open_store(tmp_path)


def test_damaged_array_of_the_right_size_is_one_sentence(copy: Path) -> None:
    path = table(copy, "neighbours.npy")
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(StoreError, match=r"neighbours\.npy .* cannot be read"):
        _ = open_store(copy).neighbours


def test_find_stores_lists_the_broken_with_their_reason(copy: Path) -> None:
    cache = copy.parent.parent
    make_store(cache, backbone="qwen2-vl-mini")
    table(copy, "bridges.parquet").unlink()
    found = {ref.backbone: ref for ref in find_stores(cache)}
    assert found["qwen2-vl-mini"].ok
    assert not found["clip-mini"].ok
    assert "bridges.parquet" in found["clip-mini"].problem
    assert find_stores(cache / "nothing here") == []


def test_sae_must_be_the_one_of_the_build(copy: Path) -> None:
    store = open_store(copy)
    folder = store.cache_dir / store.config["sae"]["path"]
    sae = store.sae()
    save_sae(type(sae)(sae.encoder_weight * 2, sae.encoder_bias, sae.dictionary, sae.top_k, sae.meta), folder)
    with pytest.raises(StoreError, match="not the one"):
        store.sae()
    shutil.rmtree(folder)
    with pytest.raises(StoreError, match="restore that folder or build"):
        store.sae()


def test_caption_says_data_split_numbers_model_and_tap(copy: Path) -> None:
    store = open_store(copy)
    assert store.caption == "synthetic test, 40 images, 80 captions, clip-mini @ last layer"
    edit_manifest(copy, facts={**store.facts, "demo": True})
    assert open_store(copy).caption.endswith(
        "demo: small models trained on EmojiScenes; these data are out of their world"
    )
