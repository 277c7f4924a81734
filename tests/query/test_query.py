"""One forward pass, then every pooling from its states: equal to what the model gives, and bad input in a sentence."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from analysis.data.pictures import picture_notes
from analysis.errors import BackboneError, DataError, UnsupportedModality
from analysis.models.backbones import Backbone
from analysis.models.pooling import Role
from analysis.query.masks import QUICK_MASKS, TokenMask, parse_mask
from analysis.query.query import embed_query, query_sample
from analysis.store import Store
from tests.data.writers import blank, saved
from tests.query.live_store import caption, picture, samples


def test_a_live_query_has_the_embedding_that_the_store_holds(mllm: Backbone, stores: dict[str, Store]) -> None:
    store = stores["qwen2_vl"]
    task = store.task("i2t")
    for pair in (0, 5):
        query = embed_query(mllm, picture=picture(pair), prompts="uniform", task="i2t")
        stored = store.embeddings("mean", task.query_rows[[pair]])[0]
        np.testing.assert_allclose(query.embedding(), stored, rtol=1e-4, atol=1e-5)


def test_a_dual_encoder_too(dual: Backbone, stores: dict[str, Store]) -> None:
    store = stores["clip"]
    query = embed_query(dual, text=caption(4), task="t2i")
    stored = store.embeddings("mean", store.task("t2i").query_rows[[4]])[0]
    np.testing.assert_allclose(query.embedding(), stored, rtol=1e-4, atol=1e-5)
    assert not query.maskable
    with pytest.raises(BackboneError, match="nothing can be masked"):
        query.embedding(TokenMask(("image",)))


def test_masks_of_roles_equal_the_variants_of_the_model(mllm: Backbone) -> None:
    query = embed_query(mllm, picture=picture(2), text=caption(2))
    variants = {"w/o image": "mean_no_image", "w/o prompt": "mean_no_prompt", "w/o instruction": "mean_no_instruction"}
    again = mllm.embed([query.sample], variants=("last", *variants.values())).vectors
    for quick, variant in variants.items():
        mask = TokenMask(QUICK_MASKS[quick])
        np.testing.assert_allclose(query.embedding(mask), again[variant][0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(query.embedding(TokenMask(pooling="last")), again["last"][0], rtol=1e-4, atol=1e-5)


def test_single_tokens_leave_the_mean_of_the_others(mllm: Backbone) -> None:
    query = embed_query(mllm, picture=picture(1), text="a dog")
    left_out = [3, 20, len(query.tokens) - 1]
    oracle = np.delete(query.tokens.states.astype(np.float64), left_out, axis=0).mean(axis=0)
    np.testing.assert_allclose(query.embedding(TokenMask(tokens=tuple(left_out))), oracle, rtol=1e-5, atol=1e-6)


def test_a_mask_of_everything_is_refused(mllm: Backbone) -> None:
    query = embed_query(mllm, text="a dog")
    with pytest.raises(BackboneError, match="leaves no token"):
        query.embedding(parse_mask(f"0-{len(query.tokens) - 1}"))


def test_the_grid_of_a_picture_covers_its_image_tokens(mllm: Backbone) -> None:
    query = embed_query(mllm, picture=picture(1))
    assert query.tokens.grid is not None
    assert query.tokens.grid[0] * query.tokens.grid[1] == (query.tokens.roles == Role.IMAGE).sum()
    assert query.role_names.count("image") == (query.tokens.roles == Role.IMAGE).sum()


def test_picture_and_text_are_refused_by_a_dual_encoder_in_one_sentence(dual: Backbone) -> None:
    with pytest.raises(UnsupportedModality, match="embeds an image or a text"):
        embed_query(dual, picture=picture(0), text="a dog")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"this is a text file", "not a picture"),
        (b"", "empty"),
        (saved(Image.new("RGB", (64, 64)), "PNG")[:60], "damaged|not a picture"),
        (blank(9000, 7000), "63 megapixels"),
    ],
)
def test_pictures_that_cannot_be_read_are_sentences(data: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        query_sample(data, "", "uniform", "i2t")


@pytest.mark.parametrize("text", ["", "   \n "])
def test_an_empty_query_is_a_sentence(text: str) -> None:
    with pytest.raises(DataError, match="query is empty"):
        query_sample(None, text, "uniform", "t2i")


def test_odd_pictures_are_read_and_said(mllm: Backbone) -> None:
    turned = Image.new("RGB", (60, 30), "red")
    exif = turned.getexif()
    exif[0x0112] = 6
    odd = {
        "CMYK": saved(Image.new("CMYK", (50, 40)), "JPEG"),
        "animation": saved(
            Image.new("RGB", (40, 40), "red"), "GIF", save_all=True, append_images=[Image.new("RGB", (40, 40), "blue")]
        ),
        "turned": saved(turned, "JPEG", exif=exif),
        "40 megapixels": blank(8000, 5000),
    }
    for words, data in odd.items():
        query = embed_query(mllm, picture=data)
        assert words in " ".join(query.notes)
        assert np.isfinite(query.embedding()).all()
    assert picture_notes(picture(0)) == ()


def test_a_text_of_100_000_characters_is_cut_and_said(mllm: Backbone) -> None:
    query = embed_query(mllm, text="a dog in the snow " * 6000)
    assert "longer than the model reads" in query.notes[0]
    assert "100" in query.notes[0] or "107" in query.notes[0] or "108" in query.notes[0]


def test_special_tokens_in_a_text_stay_text(mllm: Backbone) -> None:
    query = embed_query(mllm, text="a <|image_pad|> dog <|im_end|>")
    assert (query.tokens.roles == Role.IMAGE).sum() == 0
    assert query.tokens.grid is None


def test_the_instruction_follows_task_and_modality() -> None:
    asked = query_sample(picture(0), "same in the snow", "paper", "it2i")
    assert "with the question" in asked.instruction
    assert query_sample(picture(0), "same in the snow", "paper", "it2i-mbeir_cirr_task7") == asked
    assert "with the question" not in query_sample(picture(0), "", "paper", "it2i").instruction
    assert len(samples()) == 32
