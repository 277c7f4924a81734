"""The demo's training: fast paths equal the ordinary ones, a killed run ends where an uninterrupted one does, and what
is saved loads the ordinary way."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import AutoModel, AutoProcessor

from analysis.data.emoji_arrays import load_splits
from analysis.data.emoji_grounds import GROUNDS
from analysis.data.emoji_scenes import GRID
from analysis.data.emoji_vocabulary import vocabulary
from analysis.data.samples import Picture, Sample
from analysis.demo.architectures import (
    ARCHITECTURES,
    DESCRIBE,
    INSTRUCTIONS,
    build_chameleon,
    build_clip,
    build_paligemma2,
    build_qwen2_vl,
    build_qwen3_vl,
    build_siglip2,
)
from analysis.demo.build import DemoSize, build_backbone, read_again, take_tower
from analysis.demo.contrastive import (
    SPREAD_SCALE,
    ContrastiveTraining,
    match_loss,
    mean_and_std,
    recall_figures,
    shifted,
    truth_table,
)
from analysis.demo.conversations import IGNORED, KINDS, WITH_IMAGE
from analysis.demo.language_model import STAGES, LanguageTraining, MatchTraining
from analysis.demo.loop import Stage, batch_indices, train_stage
from analysis.demo.picture_tokens import Codebook
from analysis.demo.qwen_vision import patchify, repeat_frames, vision_tokens
from analysis.errors import AnalysisError
from analysis.models.backbones import load_backbone
from analysis.models.specs import BACKBONES, ROOT

SIZE = DemoSize(n_train=64, n_val=10, n_test=10, step_share=0.0008, batch_size=4)


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    return load_splits(tmp_path_factory.mktemp("arrays"), n_train=SIZE.n_train, n_val=SIZE.n_val, n_test=SIZE.n_test)


@pytest.fixture(scope="module")
def qwen(splits):
    torch.manual_seed(0)
    model, processor = build_qwen2_vl(splits.train.captions_flat())
    return model.eval(), processor


LANGUAGE_MODELS = {
    "qwen2-vl-mini": build_qwen2_vl,
    "qwen3-vl-mini": build_qwen3_vl,
    "paligemma2-mini": build_paligemma2,
    "chameleon-mini": build_chameleon,
}


@pytest.fixture(scope="module", params=LANGUAGE_MODELS)
def drawn(request, splits):
    """A multimodal language model as it was drawn, with its processor."""
    torch.manual_seed(0)
    model, processor = LANGUAGE_MODELS[request.param](splits.train.captions_flat())
    return model.eval(), processor


def chat(processor, *content):
    return processor.apply_chat_template([{"role": "user", "content": list(content)}])


@pytest.mark.parametrize("build", [build_clip, build_siglip2])
def test_pixels_equal_the_processor(build, splits):
    model, processor = build(splits.train.captions_flat())
    training = ContrastiveTraining(model, processor, splits.test)
    pictures = [Image.fromarray(picture) for picture in splits.test.pictures]
    expected = processor(images=pictures, return_tensors="pt").pixel_values
    torch.testing.assert_close(training.pixels(splits.test.pictures), expected, atol=1e-5, rtol=0)


def test_clip_tokenizer_is_deterministic_and_knows_every_byte(splits):
    first, second = (build_clip(splits.train.captions_flat())[1].tokenizer for _ in range(2))
    assert first.get_vocab() == second.get_vocab()
    odd = first("é 漢 # ~ Ω").input_ids
    assert odd.count(first.eos_token_id) == 1  # nothing unknown: CLIP pools at the first <|endoftext|>


def test_patches_equal_the_processor(splits, qwen):
    _, processor = qwen
    pictures = [Image.fromarray(picture) for picture in splits.test.pictures[:3]]
    inputs = processor(text=[chat(processor, {"type": "image"})] * 3, images=pictures, return_tensors="pt")
    patches = patchify(splits.test.pictures[:3], *mean_and_std(processor))
    torch.testing.assert_close(repeat_frames(patches), inputs["pixel_values"], atol=1e-5, rtol=0)
    assert inputs["image_grid_thw"].tolist() == [[1, 6, 6]] * 3


@pytest.mark.parametrize("build", [build_qwen2_vl, build_qwen3_vl])
def test_image_tokens_equal_the_ordinary_vision_tower(build, splits):
    torch.manual_seed(0)
    model, processor = build(splits.train.captions_flat())
    patches = patchify(splits.test.pictures[:3], *mean_and_std(processor))
    grid = torch.tensor([[1, 6, 6]] * 3)
    with torch.no_grad():
        expected = model.model.visual(repeat_frames(patches), grid_thw=grid)
        found, deeper = vision_tokens(model.model.visual, patches)
    torch.testing.assert_close(found.flatten(0, 1), expected.pooler_output, atol=1e-5, rtol=1e-4)
    for mine, theirs in zip(deeper, getattr(expected, "deepstack_features", ()), strict=True):
        torch.testing.assert_close(mine.flatten(0, 1), theirs, atol=1e-5, rtol=1e-4)


def conversation(training, index, kind, **options):
    return training.conversations.batch(np.array([index]), [kind], np.random.default_rng(index), **options)


def asked(training, index, kind):
    """What the user of a conversation says, as the sample of the ordinary path that says the same."""
    modality = {"name_image": "image", "name_text": "text", "name_both": "image_text"}[kind]
    split = training.split
    said = training.conversations.tokenizer.decode(conversation(training, index, kind).tokens[0])
    instruction = next(sentence for sentence in INSTRUCTIONS[modality] if sentence in said)
    caption = next((sentence for sentence in split.captions[index] if sentence in said), "")
    picture = Picture.of(Image.fromarray(split.pictures[index])) if kind in WITH_IMAGE else None
    return Sample("asked", modality, caption, picture, instruction=instruction)


def test_a_prompt_of_the_training_is_that_of_the_ordinary_path_and_has_its_states(drawn, splits, tmp_path):
    model, processor = drawn
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    backbone = load_backbone(tmp_path, device="cpu", dtype="float32", tap="post_norm")
    training = LanguageTraining(model, processor, splits.test)
    both_ways = "paligemma" in model.config.model_type
    for index, kind in enumerate(("name_image", "name_both", "name_text")):
        if both_ways and kind == "name_text":
            continue  # the ordinary path shows PaliGemma a black picture beside a text, training none
        batch = conversation(training, index, kind)
        ordinary = backbone.tokens(asked(training, index, kind))
        n = len(ordinary.ids)
        assert batch.tokens[0, :n].tolist() == list(ordinary.ids)
        if both_ways:
            assert n == int(batch.prefix[0])  # else the prompt of an answer ends with the opening of its turn
        with torch.no_grad():
            states = training.anatomy.hidden(batch, splits.test.pictures[batch.pictures])
        np.testing.assert_allclose(states[0, :n].numpy(), ordinary.states, atol=1e-4)


def test_what_is_matched_is_what_the_model_is_read_by(splits):
    """The mean over the prompt that its row of the table writes."""
    name = "qwen2-vl-contrastive-mini"
    model, processor = read_again(ROOT / BACKBONES[name].hub_id)
    backbone = load_backbone(name, device="cpu", dtype="float32")
    training, rows = MatchTraining(model.eval(), processor, splits.test), np.arange(3)
    with torch.no_grad():
        pictures = training.embed_pictures(rows, splits.test.pictures[rows])
        texts = training.embed_texts([training.conversations.captions[row][0] for row in rows])
    shown = [
        Sample("p", "image", "", Picture.of(Image.fromarray(p)), instruction=INSTRUCTIONS["image"][0])
        for p in splits.test.pictures[rows]
    ]
    said = [Sample("t", "text", splits.test.captions[row][0], instruction=INSTRUCTIONS["text"][0]) for row in rows]
    for found, samples in ((pictures, shown), (texts, said)):
        ordinary = F.normalize(torch.from_numpy(backbone.embed(samples).vectors["mean"]), dim=-1)
        torch.testing.assert_close(found, ordinary, atol=1e-5, rtol=0)


def test_a_prompt_is_read_in_both_directions_by_paligemma_alone_and_never_sees_the_answer(drawn, splits):
    model, processor = drawn
    training = LanguageTraining(model, processor, splits.test)
    for kind in KINDS:
        for causal in (False, True):
            batch = conversation(training, 2, kind, causal=causal)
            n = int(conversation(training, 2, kind).prefix[0])
            changes = []
            for first in (n, n - 6):  # the answer, then also the end of the prompt
                tokens = batch.tokens.clone()
                tokens[0, first:] = 7
                with torch.no_grad():
                    before, after = (
                        training.anatomy.hidden(one, splits.test.pictures[batch.pictures])[0, : n - 6]
                        for one in (batch, replace(batch, tokens=tokens))
                    )
                changes.append(float((before - after).abs().max()))
            assert changes[0] == 0
            assert (changes[1] > 0) == (model.config.model_type == "paligemma" and not causal)


def test_conversations_say_what_the_scene_holds(drawn, splits):
    _, processor = drawn
    split = splits.test
    training = LanguageTraining(*drawn, split)
    turns = training.anatomy.turns
    for index, kind in enumerate(KINDS):
        written = processor.tokenizer.decode(conversation(training, index, kind).tokens[0])
        user, answer = written.rsplit(turns.closed, 1)
        assert user.startswith(turns.before + (turns.picture if kind in WITH_IMAGE else "") + turns.after)
        assert answer.endswith(turns.end)
        assert answer.removesuffix(turns.end).strip() in (*split.captions[index], split.scenes[index].objects[0])
        if kind in ("describe", "name_image", "describe_tags"):
            assert user.endswith((DESCRIBE, *INSTRUCTIONS["image"]))
        else:
            instructions = INSTRUCTIONS["text" if kind == "name_text" else "image_text"]
            assert user.endswith(tuple(c + i for c in split.captions[index] for i in instructions))


def test_labels_cover_the_answer_and_only_on_request_the_text_of_the_user(drawn, splits):
    _, processor = drawn
    training = LanguageTraining(*drawn, splits.test)
    kinds = np.array([0, 1]), ["name_text", "describe"]
    answer_only = training.conversations.batch(*kinds, np.random.default_rng(0))
    everything = training.conversations.batch(*kinds, np.random.default_rng(0), predict_user_text=True)
    noun = splits.test.scenes[0].objects[0]
    predicted = answer_only.tokens[0][answer_only.labels[0] != IGNORED]
    assert processor.tokenizer.decode(predicted) == f" {noun}{training.anatomy.turns.end}"
    covered = everything.tokens[0][everything.labels[0] != IGNORED]
    assert processor.tokenizer.decode(covered).startswith(tuple(splits.test.captions[0]))
    image = processor.tokenizer.convert_tokens_to_ids(training.anatomy.turns.image_token)
    assert not (everything.labels == image).any()


def test_the_loss_equals_that_of_the_ordinary_forward(drawn, splits):
    model, processor = drawn
    training = LanguageTraining(model, processor, splits.test)
    batch = conversation(training, 4, "describe")
    shown = splits.test.pictures[4:5]
    if model.config.model_type == "paligemma":
        suffix = torch.arange(batch.tokens.shape[1]) >= batch.prefix[:, None]
        pixels = processor.image_processor(images=[Image.fromarray(shown[0])], return_tensors="pt")["pixel_values"]
        inputs = {"pixel_values": pixels, "token_type_ids": suffix.long()}
    elif model.config.model_type == "chameleon":
        pixels = processor.image_processor(images=[Image.fromarray(shown[0])], return_tensors="pt")["pixel_values"]
        inputs = {"pixel_values": pixels}
    else:
        kinds = (batch.tokens == model.config.image_token_id).int()
        grid = torch.tensor([[1, 6, 6]])
        positions, _ = model.model.get_rope_index(batch.tokens, kinds, image_grid_thw=grid)
        assert torch.equal(positions, training.anatomy.positions(batch))
        pixels = repeat_frames(patchify(shown, *mean_and_std(processor)))
        inputs = {"pixel_values": pixels, "image_grid_thw": grid, "mm_token_type_ids": kinds}
    with torch.no_grad():
        expected = model(input_ids=batch.tokens, labels=batch.labels, **inputs).loss
        logits, labels = training.predict(batch)
    if model.config.model_type == "chameleon":  # the ordinary forward never answers with a picture
        logits[:, model.model.vocabulary_mapping.image_tokens] = torch.finfo(logits.dtype).min
    found = torch.nn.functional.cross_entropy(logits, labels)
    assert float(found) == pytest.approx(float(expected), abs=1e-4)


def test_each_stage_trains_its_own_parameters(drawn, splits):
    training = LanguageTraining(*drawn, splits.test)
    names = {id(parameter): name for name, parameter in drawn[0].named_parameters()}

    def trained(part):
        return {names[id(parameter)] for parameter in training.parameters(part)}

    pictures = {
        name
        for name in names.values()
        if any(part in name for part in ("visual", "vision_tower", "projector", "vqmodel"))
    }
    assert trained("text") == set(names.values()) - pictures
    if drawn[0].config.model_type == "chameleon":  # pictures come as words, which a frozen encoder finds
        assert not trained("align")
        assert trained("joint") == trained("text")
    else:
        assert trained("align")
        assert all(("merger" in name) or ("projector" in name) for name in trained("align"))
        assert trained("joint") == set(names.values())
    assert not trained("text") & trained("align")


def test_chameleon_reads_and_predicts_the_codes_of_the_ordinary_path(splits):
    torch.manual_seed(0)
    model, processor = build_chameleon(splits.train.captions_flat())
    training = LanguageTraining(model, processor, splits.test)
    batch = training.conversations.batch(
        np.array([0, 1, 2]), ["describe", "name_text", "name_both"], np.random.default_rng(0), predict_pictures=True
    )
    read = training.anatomy.read(batch, splits.test.pictures[batch.pictures])
    shown = [Image.fromarray(splits.test.pictures[i]) for i in batch.pictures]
    pixels = processor.image_processor(images=shown, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = model.get_image_tokens(pixels).long()
    slots = batch.tokens == model.config.image_token_id
    assert slots.sum(1).tolist() == [36, 0, 36]
    assert torch.equal(read.tokens[slots], expected.flatten())
    assert torch.equal(read.labels[slots], expected.flatten())
    assert torch.equal(read.tokens[~slots], batch.tokens[~slots])
    answers = training.conversations.batch(np.array([0]), ["describe"], np.random.default_rng(0))
    assert bool((answers.labels[:, : 2 + 36] == IGNORED).all())


def test_codes_come_into_use_wherever_they_began():
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    codes = torch.nn.Parameter(
        torch.randn(32, 4, generator=generator) + 20, requires_grad=False
    )  # far from all latents
    codebook, used = Codebook(codes), []
    for _ in range(60):
        latents = torch.randn(256, 4, generator=generator)
        found = torch.cdist(latents, codes).argmin(1)
        used.append(len(found.unique()))
        codebook.follow(codes, found, latents, rng)
    assert used[0] < 8
    assert used[-1] >= 30


def test_paligemma_begins_with_the_tower_of_the_trained_siglip(splits):
    donor = ROOT / BACKBONES["siglip2-mini"].hub_id
    model, processor = build_paligemma2(splits.train.captions_flat())
    take_tower(model, donor)
    siglip = AutoModel.from_pretrained(donor, dtype=torch.float32).eval()
    pixels = processor.image_processor(images=[Image.fromarray(splits.test.pictures[0])], return_tensors="pt")
    with torch.no_grad():
        expected = siglip.vision_model(**pixels).last_hidden_state
        torch.testing.assert_close(model.model.vision_tower(**pixels).last_hidden_state, expected)


def test_every_stage_has_a_name_of_its_own():
    stages = [stage for model in STAGES.values() for stage in vars(model).values() if stage is not None]
    assert len({stage.name for stage in stages}) == len(stages)


def test_every_sample_is_used_once_an_epoch():
    stage = Stage("s", steps=10, batch_size=8, rate=1e-3)
    epoch = np.concatenate([batch_indices(stage, step, 40, seed=1)[0] for step in range(5)])
    assert sorted(epoch) == list(range(40))
    across, _ = batch_indices(replace(stage, batch_size=24), 1, 40, seed=1)
    assert len(across) == 24
    assert not np.array_equal(epoch[:8], batch_indices(stage, 0, 40, seed=2)[0])


def test_learning_rate_rises_then_falls_to_its_floor():
    stage = Stage("s", steps=1000, batch_size=8, rate=1.0, warmup=100, floor=0.02)
    rates = [stage.rate_at(step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert np.argmax(rates) == pytest.approx(99, abs=5)
    assert rates[-1] == pytest.approx(0.02, abs=1e-3)


def test_a_loss_that_is_not_finite_stops_the_stage(tmp_path):
    layer = torch.nn.Linear(2, 1)
    with pytest.raises(RuntimeError, match="lower its rate"):
        train_stage(
            Stage("broken", steps=2, batch_size=2, rate=1e-3),
            seed=0,
            module=layer,
            parameters=list(layer.parameters()),
            n_samples=4,
            batch_loss=lambda indices, rng, progress: layer(torch.full((1, 2), torch.nan)).sum(),
            run_dir=tmp_path,
            progress=False,
        )


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(run_dir / "model" / "model.safetensors")


NAMES = tuple(ARCHITECTURES)


@pytest.fixture(scope="module")
def finished(splits, tmp_path_factory):
    """Every model after a run in one go. Each in a folder of its own, where no model finds the tower of another."""
    folder = tmp_path_factory.mktemp("whole")
    for name in NAMES:
        assert build_backbone(name, splits, folder / name / name, seed=1, size=SIZE, progress=False) is not None
    return {name: folder / name / name for name in NAMES}


@pytest.fixture(scope="module")
def uninterrupted(finished):
    """The weights of every model after a run in one go."""
    return {name: weights(folder) for name, folder in finished.items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(name, splits, uninterrupted, tmp_path):
    calls = 0
    while (
        build_backbone(name, splits, tmp_path, seed=1, size=replace(SIZE, stop_after=calls + 1), progress=False) is None
    ):
        calls += 1
        assert calls < 20
    assert calls >= 1
    assert same(weights(tmp_path), uninterrupted[name])


def test_a_contrastive_stage_goes_on_from_a_finished_language_model(splits, tmp_path):
    """From one that lies beside it, interrupted or not; only its weights change."""
    name = "qwen2-vl-contrastive-mini"
    for folder in ("whole", "parts"):
        shutil.copytree(ROOT / "assets/demo/qwen2-vl-mini", tmp_path / folder / "qwen2-vl-mini/model")
    log = build_backbone(name, splits, tmp_path / "whole" / name, seed=1, size=SIZE, progress=False)
    assert (
        build_backbone(
            name, splits, tmp_path / "parts" / name, seed=1, size=replace(SIZE, stop_after=1), progress=False
        )
        is None
    )
    build_backbone(name, splits, tmp_path / "parts" / name, seed=1, size=SIZE, progress=False)
    whole, parts = (weights(tmp_path / folder / name) for folder in ("whole", "parts"))
    start = weights(tmp_path / "whole/qwen2-vl-mini")
    assert same(whole, parts)
    assert start.keys() == whole.keys()
    assert not same(start, whole)
    assert log["start"] == "qwen2-vl-mini"
    assert {"held_out", "mean_pooled"} <= set(log["held_out"])
    tokenizers = [
        AutoProcessor.from_pretrained(tmp_path / "whole" / one / "model").tokenizer for one in ("qwen2-vl-mini", name)
    ]
    assert tokenizers[0].get_vocab() == tokenizers[1].get_vocab()


def test_stages_may_run_apart(splits, uninterrupted, tmp_path):
    for only in ("qwen-text", "qwen-vision", None):
        build_backbone("qwen2-vl-mini", splits, tmp_path, seed=1, size=SIZE, only=only, progress=False)
    assert same(weights(tmp_path), uninterrupted["qwen2-vl-mini"])


def test_a_model_of_another_recipe_is_trained_anew(splits, finished, tmp_path):
    """Also where the recipe had fewer stages."""
    shutil.copytree(finished["clip-mini"] / "model", tmp_path / "model")
    log = json.loads((tmp_path / "model/training.json").read_text())
    (tmp_path / "model/training.json").write_text(json.dumps({**log, "stages": log["stages"][:1]}))
    found = build_backbone("clip-mini", splits, tmp_path, seed=1, size=SIZE, progress=False)
    assert [entry["name"] for entry in found["stages"]] == [entry["name"] for entry in log["stages"]]


def test_seeds_differ(splits, uninterrupted, tmp_path):
    build_backbone("clip-mini", splits, tmp_path, seed=2, size=SIZE, progress=False)
    assert not same(weights(tmp_path), uninterrupted["clip-mini"])


def test_a_backbone_that_does_not_exist_is_named_with_those_that_do(splits, tmp_path):
    with pytest.raises(AnalysisError, match=r"vit-mini.*clip-mini"):
        build_backbone("vit-mini", splits, tmp_path, seed=0)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_saved_is_read_by_the_ordinary_loaders(name, splits, finished, tmp_path):
    shutil.copytree(finished[name], tmp_path / name)
    log = build_backbone(name, splits, tmp_path / name, seed=1, size=SIZE, progress=False)
    processor = AutoProcessor.from_pretrained(tmp_path / name / "model")
    model = AutoModel.from_pretrained(tmp_path / name / "model", dtype=torch.float32).eval()
    picture = Image.new("RGB", (300, 200), "red")
    dual = name not in LANGUAGE_MODELS
    if dual:
        inputs = processor(text=["A dog."], images=[picture], padding="max_length", return_tensors="pt")
    elif name in ("paligemma2-mini", "chameleon-mini"):
        inputs = processor(text=["<image>" + INSTRUCTIONS["image"][0]], images=[picture], return_tensors="pt")
        inputs.pop("labels", None)
    else:
        prompt = chat(processor, {"type": "image"}, {"type": "text", "text": INSTRUCTIONS["image"][0]})
        assert prompt.startswith("<|im_start|>user\n<|vision_start|>")
        assert prompt.endswith("<|im_end|>\n")
        inputs = processor(text=[prompt], images=[picture], return_tensors="pt")
    with torch.no_grad():
        found = model(**inputs)
    embedded = found.image_embeds if dual else found.last_hidden_state
    assert bool(torch.isfinite(embedded).all())
    assert {"stages", "held_out", "parameters", "minutes", "seed"} <= set(log)
    written = (tmp_path / name / "model" / "model.safetensors").stat().st_mtime_ns
    assert build_backbone(name, splits, tmp_path / name, seed=1, size=SIZE, progress=False) == json.loads(
        (tmp_path / name / "model" / "training.json").read_text()
    )
    assert written == (tmp_path / name / "model" / "model.safetensors").stat().st_mtime_ns


def test_partners_share_the_probability_and_one_partner_each_is_infonce():
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    target = torch.arange(4)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(match_loss(logits, torch.eye(4)), expected)
    truth = torch.tensor([[1.0, 1.0, 0.0, 0.0]] * 4)
    shared = -(logits.log_softmax(1)[:, :2].mean(1)).mean()
    back = F.cross_entropy(logits.T[:2], torch.full((2, 4), 0.25))  # the columns without a partner do not count
    torch.testing.assert_close(match_loss(logits, truth), (shared + back) / 2)


def test_siglip_s_loss_is_the_cross_entropy_of_every_pair_summed_by_row(splits):
    training = ContrastiveTraining(*build_siglip2(splits.train.captions_flat()), splits.test)
    generator = torch.Generator().manual_seed(0)
    rows, columns = (F.normalize(torch.randn(n, 8, generator=generator), dim=-1) for n in (3, 5))
    truth = (torch.rand(3, 5, generator=generator) < 0.4).float()
    chance = torch.sigmoid(training.model.logit_scale.exp() * rows @ columns.T + training.model.logit_bias)
    expected = -(truth * chance.log() + (1 - truth) * (1 - chance).log()).sum() / 3
    torch.testing.assert_close(training._loss(rows, columns, truth), expected)


@pytest.mark.parametrize(("build", "learnt"), [(build_clip, False), (build_siglip2, True)])
def test_embeddings_are_spread_at_a_low_scale_that_is_not_learnt(build, learnt, splits):
    training = ContrastiveTraining(*build(splits.train.captions_flat()), splits.test)
    scale = training.model.logit_scale
    training.begin(spread=False)
    assert scale.detach().exp() > SPREAD_SCALE
    assert any(parameter is scale for parameter in training.parameters(spread=False)) == learnt
    training.begin(spread=True)
    assert float(scale.detach().exp()) == pytest.approx(SPREAD_SCALE)
    assert not any(parameter is scale for parameter in training.parameters(spread=True))


@pytest.mark.parametrize("build", [build_clip, build_siglip2])
def test_both_sides_of_a_dual_encoder_end_with_the_same_length_and_the_directions_they_had(build, splits):
    training = ContrastiveTraining(*build(splits.train.captions_flat()), splits.test)
    training.model.eval()
    before = training.embed()
    training.level()
    torch.testing.assert_close(training.embed(), before)
    pixels, ids = training.pixels(splits.test.pictures), training.tokens[:, 0]
    with torch.no_grad():
        pictures = training.model.get_image_features(pixel_values=pixels).pooler_output
        texts = training.model.get_text_features(input_ids=ids).pooler_output
    torch.testing.assert_close(texts.norm(dim=-1).mean(), pictures.norm(dim=-1).mean())


def test_the_texts_a_dual_encoder_trains_on_are_those_its_processor_makes(splits):
    for build in (build_clip, build_siglip2):
        model, processor = build(splits.train.captions_flat())
        model.eval()
        training = ContrastiveTraining(model, processor, splits.test)
        caption = splits.test.captions[0][0]
        ordinary = processor(text=[caption], padding="max_length", truncation=True, return_tensors="pt").input_ids
        cut = training._cut(training.tokens[:1, 0], training.lengths[:1, 0])
        with torch.no_grad():
            expected = F.normalize(model.get_text_features(input_ids=ordinary).pooler_output, dim=-1)
            torch.testing.assert_close(training.embed_texts(cut), expected, atol=1e-5, rtol=0)


def test_the_truth_names_the_objects_and_the_ground_of_every_scene(splits):
    names = [*vocabulary(), *(ground.name for ground in GROUNDS)]
    for scene, row in zip(splits.test.scenes, truth_table(splits.test), strict=True):
        assert {names[column] for column in np.flatnonzero(row)} == {*scene.objects, scene.ground.name}


def test_shifts_move_whole_steps_of_the_grid(splits):
    pictures = splits.test.pictures[:8]
    moved = shifted(pictures, np.random.default_rng(0))
    inner = slice(2 * GRID, -2 * GRID)
    for before, after in zip(pictures, moved, strict=True):
        moves = [(y, x) for y in (-GRID, 0, GRID) for x in (-GRID, 0, GRID)]
        assert any(np.array_equal(np.roll(before, move, (0, 1))[inner, inner], after[inner, inner]) for move in moves)


def test_recall_figures_count_hits():
    texts = torch.eye(30).repeat_interleave(5, dim=0)
    assert set(recall_figures(torch.eye(30), texts).values()) == {100.0}
    texts[:75] = texts[:75].roll(5, dims=0)  # half of the texts now name a neighbour
    found = recall_figures(torch.eye(30), texts)
    assert found["t2i@1"] == 50.0
    assert found["i2t@1"] == 50.0


@pytest.mark.parametrize("side", [57, 96, 300, 333, 1000])
def test_a_square_picture_of_any_size_costs_nine_tokens(side, qwen):
    grid = qwen[1].image_processor(images=[Image.new("RGB", (side, side))], return_tensors="pt")["image_grid_thw"]
    assert grid.tolist() == [[1, 6, 6]]  # merged two by two: 9 tokens
