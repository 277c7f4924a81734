"""Embedding as a service: what happens to broken pictures, full memory, NaN, threads, progress."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from analysis.data.samples import Picture, Sample
from analysis.errors import BackboneError, DataError
from analysis.models.backbones import load_backbone
from analysis.models.embedding import Backbone
from tests.models.samples import mixed_samples, sample


@pytest.fixture
def fresh(checkpoint) -> Backbone:
    """A backbone that a test may change."""
    return load_backbone(checkpoint("qwen2_vl"), device="cpu")


@pytest.fixture(scope="module")
def torn() -> Sample:
    """A picture whose header is fine and whose pixels are cut off."""
    whole = sample("torn", size=(100, 80)).picture.bytes()
    return Sample("torn", "image", picture=Picture(data=whole[: len(whole) // 2], name="torn.png"))


NO_PICTURE = Sample("text-file", "image", picture=Picture(data=b"hello", name="notes.txt"))


def test_a_picture_that_cannot_be_decoded_is_an_error_that_names_it(backbone, torn):
    for broken in (torn, NO_PICTURE):
        for name in ("qwen2_vl", "clip"):
            with pytest.raises(DataError, match=f"Sample '{broken.sample_id}'.*{broken.picture.name}"):
                backbone(name).embed([sample("fine", "a cat"), broken])
            with pytest.raises(DataError, match=broken.sample_id):
                backbone(name).tokens(broken)


@pytest.mark.parametrize("architecture", ["qwen2_vl", "paligemma", "clip"])
def test_skipping_leaves_the_others_as_they_were(backbone, torn, architecture):
    loaded = backbone(architecture)
    good = [one for one in mixed_samples() if one.modality != "image_text"]
    mixed = [good[0], torn, *good[1:3], NO_PICTURE, *good[3:]]
    seen = []
    embedded = loaded.embed(mixed, on_error="skip", batch_tokens=100_000, progress=seen.append)
    assert sorted(embedded.skipped) == [1, 4]
    assert "torn.png" in embedded.skipped[1]
    assert "2 x picture that cannot be read, first: torn" in embedded.defects.lines()
    kept = [place for place in range(len(mixed)) if place not in embedded.skipped]
    np.testing.assert_allclose(embedded.vectors["mean"][kept], loaded.embed(good).vectors["mean"], atol=1e-5)
    assert np.isnan(embedded.vectors["mean"][[1, 4]]).all()
    assert not embedded.defined["mean"][[1, 4]].any()
    assert sum(seen) == len(mixed)


def test_nothing_but_broken_pictures_gives_only_skipped_rows(backbone, torn):
    embedded = backbone("qwen2_vl").embed([torn, torn], on_error="skip")
    assert len(embedded.skipped) == len(embedded) == 2


def test_no_samples_give_empty_arrays(backbone):
    loaded = backbone("qwen2_vl")
    embedded = loaded.embed([], variants=("mean", "last"))
    assert {name: vectors.shape for name, vectors in embedded.vectors.items()} == {
        "mean": (0, loaded.width),
        "last": (0, loaded.width),
    }


def test_progress_counts_every_sample(backbone):
    seen = []
    backbone("qwen2_vl").embed(mixed_samples(), batch_tokens=100, progress=seen.append)
    assert sum(seen) == len(mixed_samples())
    assert len(seen) > 1


@pytest.mark.parametrize("architecture", ["qwen2_vl", "paligemma", "clip", "siglip2"])
def test_running_out_of_memory_halves_the_batch_and_goes_on(checkpoint, monkeypatch, architecture):
    loaded = load_backbone(checkpoint(architecture), device="cpu", fusion="sum_of_unit_vectors")
    samples = mixed_samples()
    expected = loaded.embed(samples, batch_tokens=100_000).vectors["mean"]
    whole, sizes = loaded._forward.pooled, []

    def small_memory(batch, variants):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(batch, variants)

    monkeypatch.setattr(loaded._forward, "pooled", small_memory)
    np.testing.assert_allclose(loaded.embed(samples, batch_tokens=100_000).vectors["mean"], expected, atol=2e-5)
    assert sizes[0] == len(samples)
    assert max(sizes[1:]) < len(samples)
    first_run = len(sizes)
    loaded.embed(samples, batch_tokens=100_000)
    assert len(samples) not in sizes[first_run:], "a size that failed is not tried again"


def test_memory_too_small_for_one_sample_is_said_in_a_sentence(fresh, monkeypatch):
    def no_memory(batch, variants):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    monkeypatch.setattr(fresh._forward, "pooled", no_memory)
    with pytest.raises(BackboneError, match="ran out of memory on cpu with sample 'only' alone; choose"):
        fresh.embed([sample("only", "a cat")])


def test_other_errors_are_not_taken_for_memory(fresh, monkeypatch):
    def broken(batch, variants):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(fresh._forward, "pooled", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        fresh.embed(mixed_samples())


def test_nan_is_caught_and_the_sample_named(fresh, monkeypatch):
    whole = fresh._forward.pooled

    def overflow(batch, variants):
        values, defined = whole(batch, variants)
        for row in range(len(batch)):
            if batch.sample_id(row) == "both":
                values[row] = np.inf
        return values, defined

    monkeypatch.setattr(fresh._forward, "pooled", overflow)
    with pytest.raises(BackboneError, match=r"NaN or infinite numbers for sample 'both' in float32"):
        fresh.embed(mixed_samples(), batch_tokens=100_000)


def test_weights_that_are_not_numbers_are_caught(fresh):
    with torch.no_grad():
        fresh._model.language_model.norm.weight.fill_(float("nan"))
    with pytest.raises(BackboneError, match="NaN"):
        fresh.embed([sample("text", "a cat")])
    with pytest.raises(BackboneError, match="'text'"):
        fresh.tokens(sample("text", "a cat"))


def test_threads_share_a_backbone(backbone):
    loaded = backbone("qwen2_vl")
    samples = mixed_samples()
    expected = [loaded.embed([one]).vectors["mean"][0] for one in samples] * 3
    with ThreadPoolExecutor(max_workers=6) as pool:
        found = list(pool.map(lambda one: loaded.embed([one]).vectors["mean"][0], samples * 3))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("architecture", ["qwen2_vl", "clip"])
def test_streamed_tokens_are_those_of_single_samples(backbone, architecture):
    loaded = backbone(architecture, fusion="sum_of_unit_vectors")
    samples = mixed_samples()
    streamed = dict(loaded.stream_tokens(samples, batch_tokens=200))
    assert sorted(streamed) == list(range(len(samples)))
    for place, one in enumerate(samples):
        alone = loaded.tokens(one)
        assert streamed[place].strings == alone.strings
        assert streamed[place].grid == alone.grid
        np.testing.assert_allclose(streamed[place].states, alone.states, atol=2e-5)


def test_a_picture_that_is_read_from_elsewhere_is_read_once(backbone):
    reads = []
    data = sample("x", size=(60, 60)).picture.bytes()

    def read() -> bytes:
        reads.append(1)
        return data

    one = Sample("lazy", "image", picture=Picture(read=read, name="cell"))
    for name in ("qwen2_vl", "clip"):
        reads.clear()
        backbone(name).embed([one])
        assert len(reads) == 1


def test_an_unloaded_backbone_says_so(fresh):
    fresh.unload()
    fresh.unload()
    with pytest.raises(BackboneError, match="unloaded; load it again"):
        fresh.embed([sample("text", "a cat")])


@pytest.mark.parametrize(
    "architecture", ["clip", "siglip", "siglip2", "qwen2_vl", "qwen3_vl", "paligemma", "chameleon"]
)
def test_an_unloaded_model_is_freed_at_once(architecture, checkpoint, monkeypatch):
    """Without a collection, which takes half a second with all libraries in memory."""
    loaded = load_backbone(checkpoint(architecture), device="cpu")
    loaded.embed([sample("text", "a cat")])
    ghost = weakref.ref(loaded._model)
    gc.collect()  # what loading left behind
    with monkeypatch.context() as patch:
        patch.setattr(gc, "collect", lambda: None)
        loaded.unload()
    assert ghost() is None


def test_an_unloaded_model_that_is_part_of_a_loop_is_freed(fresh):
    ghost = weakref.ref(fresh._model)
    object.__setattr__(fresh._model, "itself", fresh._model)
    gc.freeze()  # what the app does after a run of a page that imported something
    fresh.unload()
    assert ghost() is None
