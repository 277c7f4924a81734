"""The demo's training: fast paths equal the ordinary ones, a killed run ends where an uninterrupted one does, and what
is saved loads the ordinary way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

from analysis.data.emoji_arrays import load_splits
from analysis.demo.architectures import DESCRIBE, INSTRUCTIONS, build_clip, build_qwen2_vl
from analysis.demo.build import CLIP, QWEN, DemoSize, build_demo, train_clip_mini, train_qwen2_vl_mini
from analysis.demo.clip_mini import ClipTraining, recall_figures
from analysis.demo.conversations import IGNORED, KINDS, Conversations
from analysis.demo.loop import Stage, batch_indices, train_stage
from analysis.demo.qwen2_vl_mini import ALIGN, JOINT, TEXT, LanguageTraining
from analysis.demo.qwen_vision import patchify, repeat_frames, vision_tokens


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    return load_splits(tmp_path_factory.mktemp("arrays"), n_train=64, n_test=16)


@pytest.fixture(scope="module")
def qwen(splits):
    torch.manual_seed(0)
    model, processor = build_qwen2_vl(splits[0].captions_flat())
    return model.eval(), processor


def chat(processor, *content):
    return processor.apply_chat_template([{"role": "user", "content": list(content)}])


def mean_and_std(processor):
    return torch.tensor(processor.image_processor.image_mean), torch.tensor(processor.image_processor.image_std)


def test_clip_pixels_equal_the_processor(splits):
    model, processor = build_clip(splits[0].captions_flat())
    training = ClipTraining(model, processor, splits[1])
    pictures = [Image.fromarray(picture) for picture in splits[1].pictures]
    expected = processor(images=pictures, return_tensors="pt").pixel_values
    torch.testing.assert_close(training.pixels(splits[1].pictures), expected, atol=1e-5, rtol=0)


def test_clip_tokenizer_is_deterministic_and_knows_every_byte(splits):
    first, second = (build_clip(splits[0].captions_flat())[1].tokenizer for _ in range(2))
    assert first.get_vocab() == second.get_vocab()
    odd = first("é 漢 # ~ Ω").input_ids
    assert odd.count(first.eos_token_id) == 1  # nothing unknown: CLIP pools at the first <|endoftext|>


def test_patches_equal_the_processor(splits, qwen):
    _, processor = qwen
    pictures = [Image.fromarray(picture) for picture in splits[1].pictures[:3]]
    inputs = processor(text=[chat(processor, {"type": "image"})] * 3, images=pictures, return_tensors="pt")
    patches = patchify(splits[1].pictures[:3], *mean_and_std(processor))
    torch.testing.assert_close(repeat_frames(patches), inputs["pixel_values"], atol=1e-5, rtol=0)
    assert inputs["image_grid_thw"].tolist() == [[1, 8, 8]] * 3


def test_image_tokens_equal_the_ordinary_vision_tower(splits, qwen):
    model, processor = qwen
    patches = patchify(splits[1].pictures[:3], *mean_and_std(processor))
    grid = torch.tensor([[1, 8, 8]] * 3)
    with torch.no_grad():
        expected = model.model.visual(repeat_frames(patches), grid_thw=grid).pooler_output
        found = vision_tokens(model.model.visual, patches)
    torch.testing.assert_close(found.flatten(0, 1), expected, atol=1e-5, rtol=1e-4)


def test_batches_are_what_the_chat_template_writes(splits, qwen):
    _, processor = qwen
    split = splits[1]
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
    conversations = Conversations(processor.tokenizer, splits[1])
    answer_only = conversations.batch(np.array([0, 1]), ["name_text", "describe"], np.random.default_rng(0))
    everything = conversations.batch(
        np.array([0, 1]), ["name_text", "describe"], np.random.default_rng(0), predict_user_text=True
    )
    noun = splits[1].scenes[0].objects[0]
    predicted = answer_only.tokens[0][answer_only.labels[0] != IGNORED]
    assert processor.tokenizer.decode(predicted) == f" {noun}<|im_end|>"
    covered = everything.tokens[0][everything.labels[0] != IGNORED]
    assert processor.tokenizer.decode(covered).startswith(tuple(splits[1].captions[0]))
    image = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert not (everything.labels == image).any()


def test_positions_and_loss_equal_the_ordinary_forward(splits, qwen):
    model, processor = qwen
    training = LanguageTraining(model, processor, splits[1])
    batch = training.conversations.batch(np.array([4]), ["describe"], np.random.default_rng(0))
    kinds = (batch.tokens == model.config.image_token_id).int()
    grid = torch.tensor([[1, 8, 8]])
    positions, _ = model.model.get_rope_index(batch.tokens, kinds, image_grid_thw=grid)
    assert torch.equal(positions, batch.positions)
    pixels = repeat_frames(patchify(splits[1].pictures[4:5], *mean_and_std(processor)))
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
    training = LanguageTraining(*qwen, splits[1])
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


SIZE = DemoSize(n_train=64, n_test=16, step_share=0.002, batch_size=4)


@pytest.fixture(scope="module")
def uninterrupted(splits, tmp_path_factory):
    """Weights of both models after a run in one go."""
    folder = tmp_path_factory.mktemp("whole")
    for train in (train_clip_mini, train_qwen2_vl_mini):
        assert train(*splits, folder / train.__name__, seed=1, size=SIZE, progress=False) is not None
    return {train: weights(folder / train.__name__) for train in (train_clip_mini, train_qwen2_vl_mini)}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("train", [train_clip_mini, train_qwen2_vl_mini], ids=["clip", "qwen"])
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(train, splits, uninterrupted, tmp_path):
    calls = 0
    while train(*splits, tmp_path, seed=1, size=replace(SIZE, stop_after=calls + 1), progress=False) is None:
        calls += 1
        assert calls < 20
    assert calls >= 1
    assert same(weights(tmp_path), uninterrupted[train])


def test_stages_may_run_apart(splits, uninterrupted, tmp_path):
    for only in ("qwen-text", "qwen-vision", None):
        train_qwen2_vl_mini(*splits, tmp_path, seed=1, size=SIZE, only=only, progress=False)
    assert same(weights(tmp_path), uninterrupted[train_qwen2_vl_mini])


def test_seeds_differ(splits, uninterrupted, tmp_path):
    train_clip_mini(*splits, tmp_path, seed=2, size=SIZE, progress=False)
    assert not same(weights(tmp_path), uninterrupted[train_clip_mini])


def test_the_demo_is_saved_for_the_ordinary_loaders(tmp_path):
    build_demo(cache_dir=tmp_path / "cache", assets_dir=tmp_path / "assets", smoke=True, progress=False)
    picture = Image.new("RGB", (300, 200), "red")
    clip = AutoModel.from_pretrained(tmp_path / "assets" / CLIP).eval()
    inputs = AutoProcessor.from_pretrained(tmp_path / "assets" / CLIP)(
        text=["A dog."], images=[picture], return_tensors="pt"
    )
    with torch.no_grad():
        found = clip(**inputs)
    assert found.image_embeds.shape == found.text_embeds.shape == (1, 128)

    processor = AutoProcessor.from_pretrained(tmp_path / "assets" / QWEN)
    qwen = AutoModel.from_pretrained(tmp_path / "assets" / QWEN).eval()
    prompt = chat(processor, {"type": "image"}, {"type": "text", "text": INSTRUCTIONS["image"][0]})
    assert prompt.startswith("<|im_start|>user\n<|vision_start|>")
    assert prompt.endswith("<|im_end|>\n")
    inputs = processor(text=[prompt], images=[picture], return_tensors="pt")
    with torch.no_grad():
        hidden = qwen(**inputs).last_hidden_state
    assert hidden.shape[-1] == 256
    assert bool(torch.isfinite(hidden).all())
    for name in (CLIP, QWEN):
        log = json.loads((tmp_path / "assets" / name / "training.json").read_text())
        assert {"stages", "held_out", "parameters", "minutes", "seed"} <= set(log)
    saved = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.safetensors")}
    build_demo(cache_dir=tmp_path / "cache", assets_dir=tmp_path / "assets", smoke=True, progress=False)
    assert saved == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.safetensors")}
    with pytest.raises(ValueError, match="sleep"):
        build_demo(cache_dir=tmp_path / "cache", assets_dir=tmp_path / "assets", steps=["sleep"])


def test_recall_figures_count_hits():
    texts = torch.eye(30).repeat_interleave(5, dim=0)
    assert set(recall_figures(torch.eye(30), texts).values()) == {100.0}
    texts[:75] = texts[:75].roll(5, dims=0)  # half of the texts now name a neighbour
    found = recall_figures(torch.eye(30), texts)
    assert found["t2i@1"] == 50.0
    assert found["i2t@1"] == 50.0


@pytest.mark.parametrize("side", [57, 112, 300, 333, 1000])
def test_a_square_picture_of_any_size_costs_sixteen_tokens(side):
    shipped = Path(__file__).resolve().parents[2] / "assets" / "demo" / "qwen2-vl-mini"
    processor = AutoProcessor.from_pretrained(shipped).image_processor
    grid = processor(images=[Image.new("RGB", (side, side))], return_tensors="pt")["image_grid_thw"]
    assert grid.tolist() == [[1, 8, 8]]  # merged two by two: 16 tokens
