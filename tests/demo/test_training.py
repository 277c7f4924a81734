"""The demo's training: fast paths equal the ordinary ones, a killed run ends where an uninterrupted one does, and what
is saved loads the ordinary way."""

from __future__ import annotations

import json
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
from analysis.demo.architectures import ARCHITECTURES, DESCRIBE, INSTRUCTIONS, build_clip, build_qwen2_vl, build_siglip2
from analysis.demo.build import DemoSize, build_backbone
from analysis.demo.contrastive import ContrastiveTraining, match_loss, recall_figures, shifted, truth_table
from analysis.demo.conversations import IGNORED, KINDS, Conversations
from analysis.demo.loop import Stage, batch_indices, train_stage
from analysis.demo.qwen2_vl_mini import ALIGN, JOINT, TEXT, LanguageTraining
from analysis.demo.qwen_vision import patchify, repeat_frames, vision_tokens
from analysis.errors import AnalysisError


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    return load_splits(tmp_path_factory.mktemp("arrays"), n_train=64, n_val=16, n_test=16)


@pytest.fixture(scope="module")
def qwen(splits):
    torch.manual_seed(0)
    model, processor = build_qwen2_vl(splits.train.captions_flat())
    return model.eval(), processor


def chat(processor, *content):
    return processor.apply_chat_template([{"role": "user", "content": list(content)}])


def mean_and_std(processor):
    return torch.tensor(processor.image_processor.image_mean), torch.tensor(processor.image_processor.image_std)


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


def test_image_tokens_equal_the_ordinary_vision_tower(splits, qwen):
    model, processor = qwen
    patches = patchify(splits.test.pictures[:3], *mean_and_std(processor))
    grid = torch.tensor([[1, 6, 6]] * 3)
    with torch.no_grad():
        expected = model.model.visual(repeat_frames(patches), grid_thw=grid).pooler_output
        found = vision_tokens(model.model.visual, patches)
    torch.testing.assert_close(found.flatten(0, 1), expected, atol=1e-5, rtol=1e-4)


def test_batches_are_what_the_chat_template_writes(splits, qwen):
    _, processor = qwen
    split = splits.test
    conversations = Conversations(processor.tokenizer, split)
    for index, kind in enumerate(KINDS):
        batch = conversations.batch(np.array([index]), [kind], np.random.default_rng(index))
        written = processor.tokenizer.decode(batch.tokens[0])
        user, answer = written.split("<|im_end|>\n<|im_start|>assistant\n")
        assert answer.endswith("<|im_end|>")
        assert answer.removesuffix("<|im_end|>").strip() in (*split.captions[index], split.scenes[index].objects[0])
        if kind in ("name_text", "name_both"):
            modality = "text" if kind == "name_text" else "image_text"
            caption, instruction = next(
                (c, i) for c in split.captions[index] for i in INSTRUCTIONS[modality] if user.endswith(c + i)
            )
            content = [{"type": "image"}] if kind == "name_both" else []
            prompt = chat(processor, *content, {"type": "text", "text": caption + instruction})
            pictures = [Image.fromarray(split.pictures[index])] if content else None
            expected = processor(text=[prompt], images=pictures, return_tensors="pt").input_ids[0]
            assert batch.tokens[0, : len(expected)].tolist() == expected.tolist()
        else:
            assert user.endswith((DESCRIBE, *INSTRUCTIONS["image"]))


def test_labels_cover_the_answer_and_only_on_request_the_text_of_the_user(splits, qwen):
    _, processor = qwen
    conversations = Conversations(processor.tokenizer, splits.test)
    answer_only = conversations.batch(np.array([0, 1]), ["name_text", "describe"], np.random.default_rng(0))
    everything = conversations.batch(
        np.array([0, 1]), ["name_text", "describe"], np.random.default_rng(0), predict_user_text=True
    )
    noun = splits.test.scenes[0].objects[0]
    predicted = answer_only.tokens[0][answer_only.labels[0] != IGNORED]
    assert processor.tokenizer.decode(predicted) == f" {noun}<|im_end|>"
    covered = everything.tokens[0][everything.labels[0] != IGNORED]
    assert processor.tokenizer.decode(covered).startswith(tuple(splits.test.captions[0]))
    image = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert not (everything.labels == image).any()


def test_positions_and_loss_equal_the_ordinary_forward(splits, qwen):
    model, processor = qwen
    training = LanguageTraining(model, processor, splits.test)
    batch = training.conversations.batch(np.array([4]), ["describe"], np.random.default_rng(0))
    kinds = (batch.tokens == model.config.image_token_id).int()
    grid = torch.tensor([[1, 6, 6]])
    positions, _ = model.model.get_rope_index(batch.tokens, kinds, image_grid_thw=grid)
    assert torch.equal(positions, batch.positions)
    pixels = repeat_frames(patchify(splits.test.pictures[4:5], *mean_and_std(processor)))
    with torch.no_grad():
        expected = model(
            input_ids=batch.tokens,
            pixel_values=pixels,
            image_grid_thw=grid,
            mm_token_type_ids=kinds,
            labels=batch.labels,
        ).loss
        logits, labels = training.predict(batch)
    found = torch.nn.functional.cross_entropy(logits, labels)
    assert float(found) == pytest.approx(float(expected), abs=0.02)  # bfloat16 autocast against float32


def test_each_stage_trains_its_own_parameters(splits, qwen):
    training = LanguageTraining(*qwen, splits.test)
    names = {id(parameter): name for name, parameter in qwen[0].named_parameters()}

    def trained(stage):
        return {names[id(parameter)] for parameter in training.parameters(stage)}

    assert all("visual" not in name for name in trained(TEXT))
    assert all("visual.merger" in name for name in trained(ALIGN))
    assert trained(JOINT) == set(names.values())
    assert not trained(TEXT) & trained(ALIGN)


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


SIZE = DemoSize(n_train=64, n_val=16, n_test=16, step_share=0.002, batch_size=4)
NAMES = tuple(ARCHITECTURES)


@pytest.fixture(scope="module")
def uninterrupted(splits, tmp_path_factory):
    """Weights of every model after a run in one go."""
    folder = tmp_path_factory.mktemp("whole")
    for name in NAMES:
        assert build_backbone(name, splits, folder / name, seed=1, size=SIZE, progress=False) is not None
    return {name: weights(folder / name) for name in NAMES}


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


def test_stages_may_run_apart(splits, uninterrupted, tmp_path):
    for only in ("qwen-text", "qwen-vision", None):
        build_backbone("qwen2-vl-mini", splits, tmp_path, seed=1, size=SIZE, only=only, progress=False)
    assert same(weights(tmp_path), uninterrupted["qwen2-vl-mini"])


def test_seeds_differ(splits, uninterrupted, tmp_path):
    build_backbone("clip-mini", splits, tmp_path, seed=2, size=SIZE, progress=False)
    assert not same(weights(tmp_path), uninterrupted["clip-mini"])


def test_a_backbone_that_does_not_exist_is_named_with_those_that_do(splits, tmp_path):
    with pytest.raises(AnalysisError, match=r"vit-mini.*clip-mini"):
        build_backbone("vit-mini", splits, tmp_path, seed=0)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_saved_is_read_by_the_ordinary_loaders(name, splits, tmp_path):
    log = build_backbone(name, splits, tmp_path / name, seed=1, size=SIZE, progress=False)
    processor = AutoProcessor.from_pretrained(tmp_path / name / "model")
    model = AutoModel.from_pretrained(tmp_path / name / "model").eval()
    picture = Image.new("RGB", (300, 200), "red")
    dual = name != "qwen2-vl-mini"
    if dual:
        inputs = processor(text=["A dog."], images=[picture], padding="max_length", return_tensors="pt")
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
            torch.testing.assert_close(training.embed_texts(cut), expected, atol=2e-3, rtol=0)


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
