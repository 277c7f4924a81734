"""Vectors of one's own become a store that every page but the live model shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from analysis.build.embeddings import EmbeddingFiles, import_embeddings
from analysis.build.imports import import_sae
from analysis.build.plan import SaePlan
from analysis.errors import AnalysisError, BackboneError, DataError
from analysis.query.compatibility import request_for
from analysis.sae.encode import encode
from analysis.store import Store, open_store, verify
from tests.pages.opening import open_page, words

N, D = 40, 16
SMALL = SaePlan(n_concepts=32, top_k=4, steps=30)


def vectors(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(images, texts): a text lies near its image."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((N, D)).astype(np.float32) + 1
    return images, (images + 0.2 * rng.standard_normal((N, D))).astype(np.float32)


def imported(cache: Path, *files: Path, **beside: Any) -> Store:
    said: list[str] = []
    options = {name: beside.pop(name) for name in ("sae", "name", "dataset") if name in beside}
    options = {"name": "mine", "dataset": "flowers", "sae": SMALL} | options
    path = import_embeddings(EmbeddingFiles(files, **beside), cache=cache, say=said.append, **options)
    assert verify(path).ok, verify(path).problems
    return open_store(path)


def written(folder: Path, layout: str) -> list[Path]:
    from safetensors.torch import save_file

    images, texts = vectors()
    ids, captions = [f"p{i}" for i in range(N)], [f"a flower, number {i}" for i in range(N)]
    if layout == "npy":
        np.save(folder / "image_embeddings.npy", images)
        np.save(folder / "text_embeddings.npy", texts)
        return [folder / "image_embeddings.npy", folder / "text_embeddings.npy"]
    path = folder / f"all.{layout}"
    if layout == "npz":
        np.savez(path, image=images, text=texts, image_ids=np.array(ids), captions=np.array(captions))
    elif layout == "safetensors":
        save_file({"image_embeds": torch.from_numpy(images), "text_embeds": torch.from_numpy(texts)}, path)
    else:
        table = {"id": ids, "caption": captions, "image_embedding": [*images], "text_embedding": [*texts]}
        pd.DataFrame(table).to_parquet(path)
    return [path]


@pytest.mark.parametrize("layout", ["npy", "npz", "parquet", "safetensors"])
def test_every_format_gives_the_same_vectors_codes_and_tasks(layout: str, tmp_path: Path) -> None:
    store = imported(tmp_path / "cache", *written(tmp_path, layout))
    images, texts = vectors()
    np.testing.assert_allclose(store.embeddings(), np.concatenate([images, texts]), rtol=1e-6)
    np.testing.assert_allclose(encode(store.sae(), store.embeddings()).values, store.codes.values, rtol=1e-5)
    assert store.tasks == ("i2t", "t2i")
    np.testing.assert_array_equal(store.task("i2t").qrels.toarray() > 0, np.eye(N) > 0)
    assert len(store.results("i2t"))
    assert not store.has_model
    assert store.facts["pairs_from"] == "image-caption pairs"
    if layout in ("npz", "parquet"):
        assert store.samples["sample_id"].iat[3] == "image/p3"
        assert store.samples["text"].iat[N + 3] == "a flower, number 3"


def test_a_table_with_a_column_of_modalities(tmp_path: Path) -> None:
    images, texts = vectors()
    frame = pd.DataFrame(
        {
            "id": [str(i) for i in range(2 * N)],
            "modality": ["image", "text"] * N,
            "text": ["" if i % 2 == 0 else f"words {i}" for i in range(2 * N)],
            "embedding": [vector for pair in zip(images, texts, strict=True) for vector in pair],
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    store = imported(tmp_path / "cache", tmp_path / "t.parquet")
    assert sorted(store.samples["modality"].unique()) == ["image", "text"]
    np.testing.assert_allclose(store.embeddings()[:N], images, rtol=1e-6)
    assert store.samples["text"].iat[N] == "words 1"


def test_pictures_captions_and_pairs_from_files_beside(tmp_path: Path) -> None:
    images, texts = vectors()
    texts = np.repeat(texts, 2, axis=0)
    np.save(tmp_path / "a.npy", images.astype(np.float16))
    np.save(tmp_path / "b.npy", texts.astype(np.float16))
    (tmp_path / "pics").mkdir()
    for i in range(N - 1):
        Image.new("RGB", (20, 20), (i * 5, 90, 30)).save(tmp_path / "pics" / f"{i}.png")
    (tmp_path / "files.txt").write_text("\n".join(f"{i}.png" for i in range(N)))
    (tmp_path / "captions.txt").write_text("\n".join(f"caption {i}" for i in range(2 * N)))
    (tmp_path / "ids.txt").write_text("\n".join([f"i{i}" for i in range(N)] + [f"t{i}" for i in range(2 * N)]))
    lines = [f"i{N - 1 - i // 2},t{i}" for i in range(2 * N)] + ["nobody,t0", "i0,t0"]
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    beside = {name: tmp_path / f"{name}.txt" for name in ("files", "captions", "ids")}
    store = imported(
        tmp_path / "cache", tmp_path / "a.npy", tmp_path / "b.npy", modality=("image", "text"),
        pictures=tmp_path / "pics", pairs=tmp_path / "pairs.csv", **beside,
    )  # fmt: skip
    assert store.thumb_path(0).is_file()
    assert store.thumb_path(N - 1) is None  # its file is not there, its vector is
    assert store.n_samples == 3 * N
    assert any(f"{N - 1}.png" in line for line in store.facts["defects"])
    assert any("unknown id" in line for line in store.facts["defects"])
    assert any("second image" in line for line in store.facts["defects"])
    assert store.task("i2t").qrels.toarray()[0].nonzero()[0].tolist() == [2 * N - 2, 2 * N - 1]


def test_vectors_without_direction_are_left_out_by_name(tmp_path: Path) -> None:
    images, texts = vectors()
    images[3, 2], texts[5] = np.nan, 0
    np.savez(tmp_path / "x.npz", image=images, text=texts)
    store = imported(tmp_path / "cache", tmp_path / "x.npz")
    assert store.n_samples == 2 * N - 2
    skipped = store.facts["skipped"]
    assert (skipped["count"], skipped["first"]) == (2, ["image/000003", "its vector holds NaN or infinity"])
    assert skipped["reasons"].keys() == {"image/000003", "text/000005"}


def test_one_modality_alone_has_concepts_and_no_tasks(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", vectors()[0])
    store = imported(tmp_path / "cache", tmp_path / "images.npy")
    assert store.tasks == ()
    assert (store.concepts["energy"] > 0).any()


def test_an_sae_of_another_tool_is_taken_and_a_second_import_finds_the_store(tmp_path: Path) -> None:
    from tests.sae.foreign import CASES

    images, texts = vectors()
    np.savez(tmp_path / "x.npz", image=images[:, :12], text=texts[:, :12])
    file = next(case for case in CASES if case.name == "SAELens jumprelu").write(tmp_path)
    store = imported(tmp_path / "cache", tmp_path / "x.npz", sae=SaePlan(str(file)))
    assert store.sae().rule == "threshold"
    np.testing.assert_allclose(encode(store.sae(), store.embeddings()).values, store.codes.values, rtol=1e-5)
    assert imported(tmp_path / "cache", tmp_path / "x.npz", sae=SaePlan(str(file))).path == store.path
    folder = import_sae(file, backbone="mine", name="again", top_k=20, cache=tmp_path / "cache", sample=store.path)
    assert folder.is_dir()


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"image": np.ones((3, 4)), "text": np.ones((3, 5))}, "dimensions"),
        ({"things": np.ones((3, 4))}, "--modality"),
        ({"image": np.ones((3, 4, 2))}, "no vectors"),
        ({"image": np.array([["a", "b"]])}, "numbers"),
    ],
)
def test_files_that_do_not_fit_are_one_sentence(arrays: dict[str, np.ndarray], expected: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=expected) as caught:
        imported(tmp_path / "cache", tmp_path / "x.npz")
    assert "\n" not in str(caught.value)


def test_damaged_and_pickled_files_and_odd_names_are_one_sentence(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"image\.npy"):
        imported(tmp_path, tmp_path / "image.npy")
    for suffix in ("npz", "parquet", "safetensors", "npy"):
        (tmp_path / f"image.{suffix}").write_bytes(b"nothing")
        with pytest.raises(DataError, match=f"image.{suffix}"):
            imported(tmp_path, tmp_path / f"image.{suffix}")
    np.save(tmp_path / "image.npy", np.ones((3, 4)))
    (tmp_path / "ids.txt").write_text("a\nb")
    with pytest.raises(DataError, match="2 entries for 3"):
        imported(tmp_path, tmp_path / "image.npy", ids=tmp_path / "ids.txt")
    (tmp_path / "ids.txt").write_text("a\nb\na")
    with pytest.raises(DataError, match="same id"):
        imported(tmp_path, tmp_path / "image.npy", ids=tmp_path / "ids.txt")
    for name in ("clip-vit-b32", "My Model", "../x"):
        with pytest.raises(AnalysisError, match=name):
            imported(tmp_path, tmp_path / "image.npy", name=name)


def test_a_query_of_one_s_own_is_refused_because_there_is_no_model(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", vectors()[0])
    store = imported(tmp_path / "cache", tmp_path / "images.npy")
    with pytest.raises(BackboneError, match="imported, so there is no model"):
        request_for(store)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("imported")
    imported(home / "cache", *written(home, "npz"))
    return home / "cache"


@pytest.mark.parametrize("page", ["overview", "concepts", "concept", "retrieval_lab", "stores", "live_query"])
def test_every_page_opens_on_it(page: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page(page, cache, monkeypatch)
    assert not app.error
    assert ("no model here" in words(app)) == (page == "live_query")
