"""CLIP, SigLIP and SigLIP2 NaFlex against the checkpoint's own processor, one sample at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.data.samples import Picture, Sample
from analysis.errors import BackboneError, UnsupportedModality
from analysis.models.pooling import Role
from tests.models.reference import Reference
from tests.models.samples import DUAL, mixed_samples, picture, sample, single_modality_samples

TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=DUAL)
def architecture(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def reference(architecture, checkpoint) -> Reference:
    return Reference(checkpoint(architecture), architecture)


@pytest.fixture(scope="module")
def loaded(architecture, backbone):
    return backbone(architecture)


def test_embeddings_are_the_models_own_features(loaded, reference):
    samples = single_modality_samples()
    embedded = loaded.embed(samples).vectors["mean"]
    assert embedded.shape == (len(samples), loaded.width)
    for one, vector in zip(samples, embedded, strict=True):
        np.testing.assert_allclose(vector, reference.feature(one), atol=TOLERANCE, err_msg=one.sample_id)


def test_embeddings_are_not_normalised(loaded):
    norms = np.linalg.norm(loaded.embed(single_modality_samples()).vectors["mean"], axis=1)
    assert np.abs(norms - 1).max() > 0.01


def test_batch_size_order_and_neighbours_change_nothing(loaded):
    samples = single_modality_samples()
    together = loaded.embed(samples, batch_tokens=100_000).vectors["mean"]
    alone = np.concatenate([loaded.embed([one]).vectors["mean"] for one in samples])
    order = np.random.default_rng(0).permutation(len(samples))
    shuffled = loaded.embed([samples[i] for i in order], batch_tokens=100).vectors["mean"]
    np.testing.assert_allclose(together, alone, atol=TOLERANCE)
    np.testing.assert_allclose(shuffled, together[order], atol=TOLERANCE)


def test_the_instruction_is_not_read(loaded):
    plain = sample("text", "two dogs")
    other = plain.with_instruction("\nAnswer in French: ")
    np.testing.assert_array_equal(loaded.embed([plain]).vectors["mean"], loaded.embed([other]).vectors["mean"])


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_stands_on_the_side_of_the_checkpoints_tokenizer(architecture, checkpoint, side):
    """SigLIP's text tower reads its padding; CLIP's does not, and its texts come alone."""
    from analysis.models.backbones import load_backbone

    folder = checkpoint(architecture, padding_side=side)
    samples, oracle = single_modality_samples(), Reference(folder, architecture)
    embedded = load_backbone(folder, device="cpu").embed(samples).vectors["mean"]
    np.testing.assert_allclose(embedded, [oracle.feature(one) for one in samples], atol=TOLERANCE)


def test_only_the_mean_exists_and_the_refusal_says_so(loaded):
    assert loaded.available_variants == ("mean",)
    for variant in ("last", "mean_no_image", "mean_no_prompt"):
        with pytest.raises(BackboneError, match=f"no pooling variant '{variant}'; expected one of mean"):
            loaded.embed([sample("text", "a cat")], variants=[variant])
    tokens = loaded.tokens(sample("text", "a cat"))
    with pytest.raises(BackboneError, match="not a mean of tokens"):
        loaded.pool(tokens, np.ones(len(tokens), bool))


def test_image_and_text_together_are_refused_without_a_fusion(loaded):
    with pytest.raises(UnsupportedModality, match=r"'both' is both.*sum_of_unit_vectors"):
        loaded.embed([sample("both", "a cat", size=(56, 56))])


def test_the_fusion_adds_the_two_unit_vectors(architecture, backbone):
    fused = backbone(architecture, fusion="sum_of_unit_vectors")
    content = picture(80, 60)
    parts = fused.embed(
        [Sample("i", "image", picture=content), Sample("t", "text", text="a red car")], batch_tokens=10_000
    ).vectors["mean"]
    expected = sum(part / np.linalg.norm(part) for part in parts)
    both = Sample("both", "image_text", text="a red car", picture=content)
    np.testing.assert_allclose(fused.embed([both]).vectors["mean"][0], expected, atol=TOLERANCE)
    mixed = mixed_samples()
    alone = np.concatenate([fused.embed([one]).vectors["mean"] for one in mixed])
    np.testing.assert_allclose(fused.embed(mixed, batch_tokens=100_000).vectors["mean"], alone, atol=TOLERANCE)


def test_token_states_carry_roles_strings_grid_and_the_embedding(loaded):
    image, text = sample("image", size=(80, 60)), sample("text", "two dogs in the snow")
    for one in (image, text):
        np.testing.assert_allclose(
            loaded.pool(loaded.tokens(one)), loaded.embed([one]).vectors["mean"][0], atol=TOLERANCE
        )
    patches, words = loaded.tokens(image), loaded.tokens(text)
    assert (patches.roles == Role.IMAGE).sum() == np.prod(patches.grid)
    assert set(patches.ids.tolist()) == {-1}
    assert words.grid is None
    joined = "".join(s for s, role in zip(words.strings, words.roles, strict=True) if role == Role.TEXT)
    assert joined.replace(" ", "") == "twodogsinthesnow"


def test_special_tokens_in_the_users_text_never_become_control_tokens(loaded):
    tokenizer = loaded._inputs.tokenizer
    for token in sorted(tokenizer.all_special_tokens):
        for text in (token, token.upper(), f"a {token} b{token}", token[:3] + token + token[3:]):
            tokens = loaded.tokens(sample("attack", f"look {text} here"))
            words = tokens.ids[tokens.roles == Role.TEXT]
            assert not set(tokenizer.all_special_ids) & set(words.tolist()), text


def test_a_long_text_keeps_its_start_and_is_marked(loaded, reference):
    text = sample("long", "the red cat on the car " * 4348)
    embedded = loaded.embed([text, sample("short", "a cat")])
    assert embedded.truncated == (0,)
    shorter = Sample("cut", "text", text=text.text[:2000])  # the reference's own truncation
    np.testing.assert_allclose(embedded.vectors["mean"][0], reference.feature(shorter), atol=TOLERANCE)


def test_half_precision_batches_agree_with_singles(architecture, checkpoint):
    from analysis.models.backbones import load_backbone

    loaded = load_backbone(checkpoint(architecture), device="cpu", dtype="bfloat16")
    samples = single_modality_samples()
    together = loaded.embed(samples, batch_tokens=100_000).vectors["mean"]
    alone = np.concatenate([loaded.embed([one]).vectors["mean"] for one in samples])
    cosine = (together * alone).sum(1) / np.linalg.norm(together, axis=1) / np.linalg.norm(alone, axis=1)
    assert (cosine > 0.999).all()


class TestClip:
    def test_class_and_end_tokens_are_the_embeddings(self, backbone):
        loaded = backbone("clip")
        image = loaded.tokens(sample("image", size=(70, 70)))
        np.testing.assert_allclose(image.states[0], image.pooled, atol=TOLERANCE)
        assert image.roles[0] == Role.TEMPLATE
        text = loaded.tokens(sample("text", "a photo of a cat"))
        np.testing.assert_allclose(text.states[-1], text.pooled, atol=TOLERANCE)

    def test_patches_lie_row_by_row(self, backbone):
        assert _grid_hits(backbone("clip"), side=56, cell=8) == 49

    @pytest.mark.parametrize(
        ("width", "height", "box"),
        [(112, 56, (0.25, 0, 0.75, 1)), (56, 224, (0, 0.375, 1, 0.625)), (90, 90, (0, 0, 1, 1))],
    )
    def test_the_grid_covers_the_part_that_the_processor_crops(self, backbone, width, height, box):
        """What lies outside the box changes nothing, what lies inside near its corners does."""
        loaded = backbone("clip")
        tokens = loaded.tokens(sample("image", size=(width, height)))
        assert tokens.box == pytest.approx(box)
        left, top, right, bottom = (round(share * side) for share, side in zip(box, (width, height) * 2, strict=True))
        noise = sample("image", size=(width, height)).picture.load()
        inside = noise.crop((left, top, right, bottom))
        alone = loaded.tokens(Sample("alone", "image", picture=Picture.of(inside)))
        np.testing.assert_allclose(tokens.states, alone.states, atol=1e-2)


class TestSiglip:
    def test_patches_lie_row_by_row(self, backbone):
        assert _grid_hits(backbone("siglip"), side=64, cell=16) == 16

    def test_padding_to_the_end_and_no_mask_are_what_the_model_was_trained_with(self, backbone, checkpoint):
        # models.md A7: both alternatives change the feature, so agreeing with one of them would be a silent error.
        folder = checkpoint("siglip")
        wrong = Reference(folder, "siglip")
        text = sample("text", "a photo of a cat")
        ours = backbone("siglip").embed([text]).vectors["mean"][0]
        unpadded = wrong.processor(text=[text.text], return_tensors="pt")
        padded = wrong.processor(text=[text.text], padding="max_length", max_length=64, return_tensors="pt")
        assert (padded["input_ids"].shape[1], unpadded["input_ids"].shape[1] < 64) == (64, True)
        mask = (padded["input_ids"] != wrong.processor.tokenizer.pad_token_id).long()
        with torch.inference_mode():
            features = [
                wrong.model.get_text_features(input_ids=unpadded["input_ids"]),
                wrong.model.get_text_features(input_ids=padded["input_ids"], attention_mask=mask),
            ]
        for feature in features:
            assert np.abs(feature.pooler_output[0].numpy() - ours).max() > 1e-2


def _grid_hits(loaded, *, side: int, cell: int) -> int:
    """How often the token that changes most is the cell that was painted."""
    from PIL import Image

    def states(pixels: np.ndarray) -> np.ndarray:
        tokens = loaded.tokens(Sample("grid", "image", picture=Picture.of(Image.fromarray(pixels))))
        return tokens.states[tokens.roles == Role.IMAGE]

    grey = np.full((side, side, 3), 100, np.uint8)
    base, n, hits = states(grey), side // cell, 0
    for place in range(n * n):
        r, c = divmod(place, n)
        painted = grey.copy()
        painted[r * cell : (r + 1) * cell, c * cell : (c + 1) * cell] = 255
        hits += int(np.linalg.norm(states(painted) - base, axis=1).argmax()) == place
    return hits
