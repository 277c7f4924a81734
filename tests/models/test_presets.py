"""Embedding models: the prompt against the one that their authors' code writes, the pooled token, the positions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis.data.samples import Sample
from analysis.errors import AnalysisError, BackboneError
from analysis.models import specs
from analysis.models.backbones import backbone_config, load_backbone
from analysis.models.prompts import instruction_for
from analysis.query.masks import TokenMask
from tests.models.samples import picture

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
REPRESENT = "Represent the user's input."
RETRIEVE = "Retrieve images or text relevant to the user's query."
LLAMA = "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n \n"


def qwen3(system: str, user: str) -> str:
    return f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"


def gme(system: str, user: str) -> str:
    return qwen3(system, user) + "<|endoftext|>"


# Written out by hand from the sources that specs.py names: key, architecture, task, side, modality, prompt.
CASES = [
    ("qwen3-vl-embedding-2b", "qwen3_vl", "i2t", "candidate", "text", qwen3(REPRESENT, "a red car")),
    ("qwen3-vl-embedding-8b", "qwen3_vl", None, None, "image", qwen3(REPRESENT, IMAGE)),
    ("qwen3-vl-embedding-2b", "qwen3_vl", "it2i", "query", "image_text", qwen3(RETRIEVE, IMAGE + "a red car")),
    ("gme-qwen2-vl-2b", "qwen2_vl", None, None, "text", gme("You are a helpful assistant.", "a red car")),
    ("gme-qwen2-vl-7b", "qwen2_vl", "t2i", "query", "text", gme("Find an image that matches the given text.", "a red car")),
    ("gme-qwen2-vl-2b", "qwen2_vl", "t2i", "candidate", "image", gme("You are a helpful assistant.", IMAGE)),
    ("gme-qwen2-vl-2b", "qwen2_vl", None, None, "image_text", gme("You are a helpful assistant.", IMAGE + "a red car")),
    ("vlm2vec-v2", "qwen2_vl", None, None, "text", "a red car"),
    ("vlm2vec-v2", "qwen2_vl", None, None, "image", "<|image_pad|> Represent the given image."),
    (
        "vlm2vec-v2", "qwen2_vl", None, None, "image_text",
        "<|image_pad|> Represent the given image with the following question: a red car",
    ),
    ("e5-v", "llava_next", None, None, "text", LLAMA.format("a red car\nSummary above sentence in one word: ")),
    ("e5-v", "llava_next", None, None, "image", LLAMA.format("<image>\nSummary above image in one word: ")),
    (
        "e5-v", "llava_next", None, None, "image_text",
        LLAMA.format('<image>Modify this image with "a red car", desribe modified image in one word:'),
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def preset(checkpoint):
    """preset("gme-qwen2-vl-2b", "qwen2_vl") -> the row on tiny weights; small pictures stay small."""
    loaded: dict[str, object] = {}

    def get(key: str, architecture: str):
        if key not in loaded:
            with pytest.MonkeyPatch.context() as patch:
                small = replace(specs.BACKBONES[key], pixels=specs.BACKBONES[key].pixels and (3136, 128 * 128))
                patch.setitem(specs.BACKBONES, key, small)
                loaded[key] = load_backbone(key, weights=checkpoint(architecture), device="cpu")
        return loaded[key]

    return get


def made(modality: str, key: str, task: str | None, side: str | None) -> Sample:
    one = Sample(
        "one",
        modality,
        text="a red car" if "text" in modality else "",
        picture=picture(80, 60) if "image" in modality else None,
    )
    return one.with_instruction(instruction_for(specs.BACKBONES[key].prompts, task, side, modality))


@pytest.mark.parametrize(("key", "architecture", "task", "side", "modality", "prompt"), CASES)
def test_the_tokens_are_those_of_the_authors_prompt(preset, key, architecture, task, side, modality, prompt):
    loaded, one = preset(key, architecture), made(modality, key, task, side)
    processor = loaded._inputs._pixels._processor
    images = [one.picture.load()] if one.picture else None
    expected = processor(text=[prompt], images=images, return_tensors="pt")["input_ids"][0].tolist()
    tokens = loaded.tokens(one)
    assert tokens.ids.tolist() == expected
    np.testing.assert_array_equal(tokens.pooled, tokens.states[-1])
    np.testing.assert_allclose(loaded.embed([one]).vectors["mean"][0], tokens.states[-1], atol=2e-5)


def test_instruction_and_text_keep_their_roles_where_the_instruction_stands_first(preset):
    tokens = preset("gme-qwen2-vl-2b", "qwen2_vl").tokens(made("image_text", "gme-qwen2-vl-2b", None, None))
    joined = {
        role: "".join(s for s, r in zip(tokens.strings, tokens.roles.tolist(), strict=True) if r == role)
        for role in (3, 4)
    }
    assert joined == {3: "a red car", 4: "You are a helpful assistant."}


def test_gmes_image_tokens_have_sequential_positions(preset):
    """Its own forward pass, written out: embeddings in, no multimodal positions."""
    loaded, one = preset("gme-qwen2-vl-2b", "qwen2_vl"), made("image", "gme-qwen2-vl-2b", None, None)
    model = loaded._model
    inputs = loaded._inputs._pixels._processor(
        text=[gme("You are a helpful assistant.", IMAGE)], images=[one.picture.load()], return_tensors="pt"
    )
    with torch.inference_mode():
        embedded = model.get_input_embeddings()(inputs["input_ids"])
        seen = model.visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"], return_dict=True).pooler_output
        embedded[inputs["input_ids"] == model.config.image_token_id] = seen
        states = model.language_model(inputs_embeds=embedded, attention_mask=inputs["attention_mask"]).last_hidden_state
    np.testing.assert_allclose(loaded.tokens(one).states, states[0].numpy(), atol=2e-5)


def test_a_batch_equals_each_sample_alone(preset):
    loaded = preset("gme-qwen2-vl-2b", "qwen2_vl")
    samples = [made(kind, "gme-qwen2-vl-2b", None, None) for kind in ("text", "image", "image_text")]
    together = loaded.embed(samples, batch_tokens=100_000).vectors["mean"]
    alone = np.concatenate([loaded.embed([one]).vectors["mean"] for one in samples])
    np.testing.assert_allclose(together, alone, atol=2e-5)


def test_an_embedding_model_has_one_vector_and_says_so(preset):
    loaded = preset("e5-v", "llava_next")
    assert loaded.available_variants == ("mean",)
    assert backbone_config(loaded)["pooling"] == "last"
    with pytest.raises(BackboneError, match="no pooling variant 'mean_no_image'"):
        loaded.embed([made("text", "e5-v", None, None)], variants=["mean_no_image"])
    tokens = loaded.tokens(made("text", "e5-v", None, None))
    with pytest.raises(BackboneError, match=r"E5-V.*not a mean of tokens"):
        loaded.pool(tokens, np.ones(len(tokens), bool))


@pytest.mark.parametrize(("backbone", "prompts"), [("e5-v", "uniform"), ("clip-mini", "gme"), ("e5-v", "gme")])
def test_prompts_of_another_kind_of_model_are_refused(backbone, prompts):
    from analysis.build.build import build
    from analysis.build.plan import BuildPlan, DataPlan, ModelPlan

    right = specs.BACKBONES[backbone].prompts
    with pytest.raises(AnalysisError, match=rf"'{prompts}' do not belong to {backbone}.*--prompts {right}"):
        build(BuildPlan(DataPlan("nothing"), ModelPlan(backbone, prompts=prompts)))


def test_a_live_query_reads_the_presets_own_prompts(preset):
    from analysis.query.query import embed_query

    loaded = preset("gme-qwen2-vl-2b", "qwen2_vl")
    query = embed_query(loaded, text="a red car", task="t2i")
    assert query.prompts == "gme"
    assert query.sample.instruction == "Find an image that matches the given text."
    assert embed_query(loaded, text="a red car").sample.instruction == "You are a helpful assistant."
    np.testing.assert_array_equal(query.embedding(), query.tokens.states[-1])
    assert not query.maskable
    with pytest.raises(BackboneError, match=r"gme-qwen2-vl-2b was trained to give one vector.*choose an MLLM"):
        query.embedding(TokenMask(roles=("text",)))


def test_a_store_says_what_its_one_vector_is(tmp_path):
    """Also where the same weights were read as a plain MLLM: the two do not mix."""
    from analysis.query.compatibility import mismatches
    from analysis.store import open_store
    from tests.synthetic_store import make_store

    store = open_store(make_store(tmp_path, backbone="qwen2-vl-mini"))
    assert (store.embedding_words, store.one_vector) == ("mean of all tokens", False)
    made_by = store.config["backbone"] | {"pooling": "last"}
    store.config["backbone"] = made_by
    assert (store.embedding_words, store.one_vector) == ("last token of its trained template", True)
    assert "(last token of its trained template)" in store.caption
    plain = {name: value for name, value in made_by.items() if name != "pooling"}
    (why,) = mismatches(store.config, plain, store.config["prompts"])
    assert why == "the token that an embedding model pools is None, the store's is 'last'"
