"""The MLLM families against the checkpoint's own processor and whole model, one sample at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.data.samples import Picture, Sample
from analysis.models.pooling import Role
from tests.models.reference import Reference
from tests.models.samples import MLLMS, TILED, mixed_samples, picture, sample

TOLERANCE = 2e-5


@pytest.fixture(scope="module", params=MLLMS)
def architecture(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def reference(architecture, checkpoint) -> Reference:
    return Reference(checkpoint(architecture), architecture)


@pytest.fixture(scope="module")
def loaded(architecture, backbone):
    return backbone(architecture, dummy_image="include")


def test_token_ids_are_those_of_the_processor(loaded, reference):
    for one in mixed_samples():
        assert loaded.tokens(one).ids.tolist() == reference.inputs(one)["input_ids"][0].tolist(), one.sample_id


def test_states_are_those_of_the_whole_model(loaded, reference, architecture):
    for one in mixed_samples():
        expected = reference.states(one, pre_norm=architecture == "qwen3_vl")
        np.testing.assert_allclose(loaded.tokens(one).states, expected, atol=TOLERANCE, err_msg=one.sample_id)


def test_a_batch_of_everything_equals_each_sample_alone(loaded):
    samples = mixed_samples()
    together = loaded.embed(samples, variants=loaded.available_variants, batch_tokens=100_000)
    for place, one in enumerate(samples):
        alone = loaded.embed([one], variants=loaded.available_variants)
        for variant in loaded.available_variants:
            np.testing.assert_allclose(
                together.vectors[variant][place], alone.vectors[variant][0], atol=TOLERANCE, err_msg=one.sample_id
            )
            assert together.defined[variant][place] == alone.defined[variant][0]
    np.testing.assert_array_equal(
        together.role_counts, np.concatenate([loaded.embed([one]).role_counts for one in samples])
    )


def test_order_and_batch_size_change_nothing(loaded):
    samples = mixed_samples()
    base = loaded.embed(samples, batch_tokens=100_000).vectors["mean"]
    order = np.random.default_rng(0).permutation(len(samples))
    shuffled = loaded.embed([samples[i] for i in order], batch_tokens=120).vectors["mean"]
    np.testing.assert_allclose(shuffled, base[order], atol=TOLERANCE)


def test_the_tokenizers_padding_side_changes_nothing(architecture, checkpoint):
    from analysis.models.backbones import load_backbone

    left, right = (
        load_backbone(checkpoint(architecture, padding_side=side), device="cpu")
        .embed(mixed_samples(), variants=("mean", "last"), batch_tokens=100_000)
        .vectors
        for side in ("left", "right")
    )
    for variant in left:
        np.testing.assert_allclose(left[variant], right[variant], atol=1e-6)


def test_pooling_token_states_gives_every_variant_of_embed(loaded):
    samples = mixed_samples()
    embedded = loaded.embed(samples, variants=loaded.available_variants)
    for place, one in enumerate(samples):
        tokens = loaded.tokens(one)
        for variant, vectors in embedded.vectors.items():
            np.testing.assert_allclose(loaded.pool(tokens, variant), vectors[place], atol=TOLERANCE)


def test_any_subset_of_tokens_can_be_pooled(loaded):
    tokens = loaded.tokens(sample("both", "a red car", size=(80, 80)))
    keep = np.isin(tokens.roles, [Role.IMAGE]) & (np.arange(len(tokens)) % 2 == 0)
    np.testing.assert_allclose(loaded.pool(tokens, keep), tokens.states[keep].mean(0), atol=1e-6)


def test_roles_cover_the_text_and_the_instruction(loaded):
    text = "Two dogs, playing in the snow"
    tokens = loaded.tokens(sample("both", text, size=(80, 56)))
    joined = {role: "".join(s for s, r in zip(tokens.strings, tokens.roles, strict=True) if r == role) for role in Role}
    assert joined[Role.TEXT] == text
    instruction = "\nSummarize the above image and the sentence in one word: "
    assert joined[Role.INSTRUCTION] == (instruction.rstrip() if loaded.spec.model_type == "gemma3" else instruction)
    check_picture(loaded, tokens)
    assert Role.PAD not in tokens.roles


def test_a_sample_without_instruction_has_no_instruction_tokens(loaded):
    tokens = loaded.tokens(Sample("plain", "text", text="a cat"))
    assert not (tokens.roles == Role.INSTRUCTION).any()


def test_defined_says_which_variants_concern_a_sample(loaded):
    samples = mixed_samples()
    embedded = loaded.embed(samples, variants=loaded.available_variants)
    has_picture = np.array([one.picture is not None for one in samples])
    for variant in ("mean_no_image", "mean_no_prompt"):
        np.testing.assert_array_equal(embedded.defined[variant], has_picture)
        np.testing.assert_array_equal(embedded.vectors[variant][~has_picture], embedded.vectors["mean"][~has_picture])
        assert (np.abs(embedded.vectors[variant] - embedded.vectors["mean"]).max(1)[has_picture] > 1e-4).all()
    for variant in ("mean", "last", "mean_no_instruction"):
        assert embedded.defined[variant].all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_batches_agree_with_singles(architecture, checkpoint, dtype):
    from analysis.models.backbones import load_backbone

    loaded = load_backbone(checkpoint(architecture), device="cpu", dtype=dtype)
    samples = mixed_samples()
    together = loaded.embed(samples, batch_tokens=100_000).vectors["mean"]
    alone = np.concatenate([loaded.embed([one]).vectors["mean"] for one in samples])
    assert loaded.dtype == dtype
    assert together.dtype == np.float32
    assert (_cosine(together, alone) > 0.9995).all()


def test_special_tokens_in_the_users_text_never_become_control_tokens(loaded):
    tokenizer = loaded._inputs.tokenizer
    control = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    tokens = sorted({tokenizer.convert_ids_to_tokens(i) for i in control})
    for token in [token for token in tokens if not token.startswith("<row_") or token == "<row_1_col_1>"]:
        nested = token[:3] + token + token[3:]  # what deleting would turn into the token itself
        for text in (f"{token}a{token}b {token}", nested + token * 5):
            tokens = loaded.tokens(sample("attack", f"look {text} here", size=(56, 56)))
            words = tokens.ids[tokens.roles == Role.TEXT]
            assert not control & set(words.tolist()), text
            check_picture(loaded, tokens)
            assert (tokens.roles == Role.INSTRUCTION).any()


def test_odd_characters_do_not_crash(loaded):
    for text in ("\ud800 lone surrogate", "\x00 null", "‮ right to left", "a\u0301" * 20, "\n\n\t", "🐻‍❄️" * 10):
        if text.strip():
            assert np.isfinite(loaded.embed([sample("odd", text)]).vectors["mean"]).all()


def test_the_text_of_an_image_sample_is_a_note_and_is_not_read(loaded):
    plain = sample("image", size=(80, 60))
    noted = Sample("image", "image", text="file 17", picture=plain.picture, instruction=plain.instruction)
    assert loaded.tokens(noted).ids.tolist() == loaded.tokens(plain).ids.tolist()


def test_a_very_long_text_is_cut_and_marked(architecture, checkpoint):
    from analysis.models.backbones import load_backbone

    loaded = load_backbone(checkpoint(architecture), device="cpu", max_text_tokens=64)
    texts = [sample("long", "the red cat on the car " * 4348), sample("short", "a cat")]
    embedded = loaded.embed(texts)
    assert len(texts[0].text) > 100_000
    assert embedded.truncated == (0,)
    assert embedded.role_counts[0, Role.TEXT] == 64
    assert embedded.role_counts[0, Role.INSTRUCTION] == embedded.role_counts[1, Role.INSTRUCTION] > 0
    assert embedded.defects.lines() == ["1 x text cut to fit, first: long"]
    assert loaded.tokens(texts[0]).truncated


@pytest.mark.parametrize("size", [(1, 1), (3, 300), (640, 48)])
def test_pictures_of_extreme_shapes_are_embedded(loaded, size):
    check_picture(loaded, loaded.tokens(sample("odd", size=size)))


def check_picture(loaded, tokens) -> None:
    """The image tokens are those that the model takes for such, and each cell of the grid is one of them."""
    np.testing.assert_array_equal(tokens.roles == Role.IMAGE, tokens.ids == loaded._inputs.image_token_id)
    assert len(tokens.cells) == len(set(tokens.cells.tolist())) == np.prod(tokens.grid)
    assert (tokens.roles[tokens.cells] == Role.IMAGE).all()


def test_the_language_model_head_is_not_loaded(loaded):
    assert not any("lm_head" in name for name, _ in loaded._model.named_modules())


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


class TestTap:
    """Which side of the final norm is read (models.md, A1)."""

    def test_qwen3_reads_before_the_norm_by_default_and_the_others_after_it(self, architecture, loaded):
        assert loaded.spec.tap == ("pre_norm" if architecture == "qwen3_vl" else "post_norm")

    def test_the_norm_leads_from_one_tap_to_the_other(self, architecture, checkpoint):
        from analysis.models.backbones import load_backbone
        from analysis.models.families import FAMILIES, at_path

        before, after = (
            load_backbone(checkpoint(architecture), device="cpu", tap=tap) for tap in ("pre_norm", "post_norm")
        )
        norm = at_path(after._model, FAMILIES[architecture].norm)
        one = sample("both", "a red car", size=(80, 80))
        states = before.tokens(one).states
        with torch.inference_mode():
            expected = norm(torch.from_numpy(states)).numpy()
        np.testing.assert_allclose(after.tokens(one).states, expected, atol=1e-5)
        assert np.abs(states - expected).max() > 1e-2

    def test_pre_mlp_is_the_residual_that_the_last_mlp_is_added_to(self, architecture, backbone):
        """out = x + post(mlp(norm(x))), written out with the layer's own parts, must give the tap before the final norm."""
        loaded = backbone(architecture)
        one = sample("both", "a red car", size=(80, 80))
        layer = loaded._forward._decoder().layers[-1]
        x = torch.from_numpy(loaded.with_tap("pre_mlp").tokens(one).states)
        with torch.inference_mode():
            if hasattr(layer, "pre_feedforward_layernorm"):  # Gemma 2 and 3
                added = layer.post_feedforward_layernorm(layer.mlp(layer.pre_feedforward_layernorm(x)))
            else:
                added = layer.mlp(layer.post_attention_layernorm(x))
        after = loaded.with_tap("pre_norm").tokens(one).states
        np.testing.assert_allclose((x + added).numpy(), after, atol=2e-5)
        assert added.abs().max() > 1e-3


class TestTiles:
    """Where a tile's tokens lie: paint one cell of a grey picture and look which tokens change most."""

    @pytest.mark.parametrize(
        ("architecture", "height", "width", "grid"),
        [
            ("idefics3", 56, 112, (4, 8)),
            ("smolvlm", 112, 56, (8, 4)),
            ("internvl", 28, 84, (2, 6)),
            ("llava_next", 28, 56, (4, 8)),
            ("llava_onevision", 28, 56, (4, 8)),
            ("gemma3", 56, 56, (4, 4)),
            ("qwen2_5_vl", 84, 112, (3, 4)),
        ],
    )
    def test_the_painted_cell_changes_its_token_most(self, backbone, architecture, height, width, grid):
        loaded = backbone(architecture)
        rows, columns = grid
        base = self._embedded(loaded, _grey(height, width), grid)
        hits = 0
        for place in range(rows * columns):
            r, c = divmod(place, columns)
            pixels = _grey(height, width)
            pixels[r * height // rows : (r + 1) * height // rows, c * width // columns : (c + 1) * width // columns] = (
                255
            )
            changed = np.linalg.norm(self._embedded(loaded, pixels, grid) - base, axis=1)
            hits += int(changed.argmax()) == place
        assert hits >= 0.9 * rows * columns, f"{hits} of {rows * columns}"

    @staticmethod
    def _embedded(loaded, pixels: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
        """What enters the language model at the cells of the grid: a random decoder would mix them."""
        from PIL import Image

        seen = []
        hook = (
            loaded._forward._decoder()
            .layers[0]
            .register_forward_pre_hook(
                lambda _, args, kwargs: seen.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
            )
        )
        tokens = loaded.tokens(Sample("grid", "image", picture=Picture.of(Image.fromarray(pixels))))
        hook.remove()
        assert tokens.grid == grid
        return seen[0][0].numpy()[tokens.cells]

    @pytest.mark.parametrize("architecture", TILED)
    def test_the_expected_number_of_tokens_is_the_real_one(self, backbone, architecture):
        """Texts are cut by it before pictures are decoded; processors arrange tiles by rules of their own."""
        loaded = backbone(architecture)
        for width, height in (
            (1, 1),
            (28, 28),
            (30, 29),
            (56, 57),
            (113, 20),
            (61, 112),
            (300, 40),
            (640, 427),
            (33, 900),
        ):
            one = sample("sized", size=(width, height))
            _, expected = loaded._inputs.rows([one], lambda place, error: pytest.fail(str(error)))
            assert expected == [len(loaded.tokens(one))], (width, height)
            reference = loaded._inputs._pixels._processed([one.picture.load()])
            assert len(reference["pixel_values"]) >= 1

    def test_markup_between_tiles_is_template_and_has_its_names(self, backbone):
        tokens = backbone("idefics3").tokens(sample("both", "a red car", size=(56, 28)))
        names = [name for name, role in zip(tokens.strings, tokens.roles, strict=True) if role == Role.TEMPLATE]
        assert {"<row_1_col_1>", "<row_2_col_4>", "<global-img>", "<fake_token_around_image>"} <= set(names)
        assert {name for name, role in zip(tokens.strings, tokens.roles, strict=True) if role == Role.IMAGE} == {""}

    def test_gemmas_picture_is_seen_in_both_directions(self, backbone):
        loaded = backbone("gemma3")
        left, right = _grey(56, 56), _grey(56, 56)
        right[42:, 42:] = 255
        states = [_states(loaded, pixels) for pixels in (left, right)]
        assert np.abs(states[0][0] - states[1][0]).max() > 1e-4  # the first patch knows of the last


class TestGrid:
    """Image tokens lie row by row: change one cell of the picture and look where the states change most."""

    @pytest.mark.parametrize(
        ("architecture", "cell", "rows", "columns"), [("qwen2_vl", 28, 3, 4), ("qwen3_vl", 32, 3, 4)]
    )
    def test_a_changed_cell_changes_its_token_most(self, backbone, architecture, cell, rows, columns):
        loaded = backbone(architecture)
        base = _states(loaded, _grey(rows * cell, columns * cell))
        hits = 0
        for r in range(rows):
            for c in range(columns):
                pixels = _grey(rows * cell, columns * cell)
                pixels[r * cell : (r + 1) * cell, c * cell : (c + 1) * cell] = 255
                changed = np.linalg.norm(_states(loaded, pixels) - base, axis=1).reshape(rows, columns)
                hits += np.unravel_index(changed.argmax(), changed.shape) == (r, c)
        assert hits == rows * columns

    def test_paligemma_patches_lie_row_by_row(self, backbone):
        # Its bidirectional layers mix the patches of a random model, so the order is read off the patch embedding.
        vision = backbone("paligemma")._model.vision_tower.embeddings.patch_embedding
        hits = 0
        for cell in range(16):
            r, c = divmod(cell, 4)
            pixels = torch.zeros(1, 3, 56, 56)
            pixels[:, :, r * 14 : (r + 1) * 14, c * 14 : (c + 1) * 14] = 1.0
            with torch.inference_mode():
                patches = (vision(pixels) - vision(torch.zeros(1, 3, 56, 56))).flatten(2).norm(dim=1)[0]
            hits += int(patches.argmax()) == cell
        assert hits == 16

    def test_chameleon_codes_lie_row_by_row(self, backbone):
        # A feature map whose cell (r, c) is code 4 r + c must come out as 0, 1, 2, ...
        vq = backbone("chameleon")._model.vqmodel
        planted = vq.quantize.embedding.weight[:16].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
        with torch.inference_mode():
            *_, indices = vq.quantize(planted)
        assert indices.flatten().tolist() == list(range(16))


class TestPaliGemma:
    def test_the_prefix_is_bidirectional(self, backbone):
        # Without token_type_ids transformers 5.x attends causally and the picture cannot see the text.
        loaded = backbone("paligemma")
        first, second = (
            loaded.tokens(Sample("both", "image_text", text=text, picture=picture(56, 56))).states[:16]
            for text in ("a cat", "a red car")
        )
        assert np.abs(first - second).max() > 1e-3

    def test_the_dummy_picture_of_a_text_is_left_out_of_pooling(self, backbone):
        text = sample("text", "two dogs in the snow")
        exclude, include = backbone("paligemma"), backbone("paligemma", dummy_image="include")
        without, with_dummy = exclude.tokens(text), include.tokens(text)
        assert len(with_dummy) == len(without) + 16
        assert without.grid is None
        assert not (with_dummy.roles == Role.IMAGE).any()
        np.testing.assert_allclose(without.states, with_dummy.states[16:], atol=1e-6)
        np.testing.assert_allclose(exclude.embed([text]).vectors["mean"][0], without.states.mean(0), atol=1e-5)
        np.testing.assert_allclose(include.embed([text]).vectors["mean"][0], with_dummy.states.mean(0), atol=1e-5)
        assert exclude.embed([text]).role_counts[0, Role.IMAGE] == 0

    def test_the_option_does_not_touch_real_pictures(self, backbone):
        both = sample("both", "a cat", size=(56, 56))
        exclude, include = (backbone("paligemma", dummy_image=choice) for choice in ("exclude", "include"))
        np.testing.assert_array_equal(exclude.embed([both]).vectors["mean"], include.embed([both]).vectors["mean"])


class TestChameleon:
    def test_the_picture_encoder_stays_in_float32(self, checkpoint):
        from analysis.models.backbones import load_backbone

        loaded = load_backbone(checkpoint("chameleon"), device="cpu", dtype="bfloat16")
        assert {p.dtype for p in loaded._model.vqmodel.parameters()} == {torch.float32}
        assert {p.dtype for p in loaded._model.layers.parameters()} == {torch.bfloat16}

    def test_picture_codes_in_the_users_text_are_broken_up(self, backbone):
        loaded = backbone("chameleon")
        codes = {i for token, i in loaded._model.config.vocabulary_map.items() if token.startswith("IMGIMG")}
        assert len(codes) == 32
        tokens = loaded.tokens(sample("attack", "look IMGIMGBAZ here"))
        assert not codes & set(tokens.ids.tolist())


def _grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 100, np.uint8)


def _states(loaded, pixels: np.ndarray) -> np.ndarray:
    from PIL import Image

    one = Sample("grid", "image", picture=Picture.of(Image.fromarray(pixels)))
    tokens = loaded.tokens(one)
    return tokens.states[tokens.roles == Role.IMAGE]
