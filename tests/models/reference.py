"""The embeddings as one would write them without this project: one sample at a time, the checkpoint's own processor, the
whole model with its language-model head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor

from analysis.data.samples import Sample
from tests.models.samples import DUAL

CHAT = ("qwen2_vl", "qwen3_vl")
PLACEHOLDER = ("paligemma", "chameleon")


class Reference:
    def __init__(self, folder: Path, architecture: str) -> None:
        self.architecture = architecture
        dual = architecture in DUAL
        self.model = (AutoModel if dual else AutoModelForImageTextToText).from_pretrained(folder).eval()
        self.processor = AutoProcessor.from_pretrained(folder)

    def inputs(self, sample: Sample) -> Any:
        """What the processor makes of one sample, labels removed."""
        image = sample.picture.load() if sample.picture else None
        words = sample.text + sample.instruction
        if self.architecture in CHAT:
            content = [{"type": "image"}] * (image is not None) + [{"type": "text", "text": words}]
            prompt = self.processor.apply_chat_template([[{"role": "user", "content": content}]], tokenize=False)
        elif self.architecture not in PLACEHOLDER:  # the processor does everything: template, tiles, markup, tokens
            content = [{"type": "image", "image": image}] * (image is not None) + [{"type": "text", "text": words}]
            return self.processor.apply_chat_template(
                [[{"role": "user", "content": content}]], tokenize=True, return_dict=True, return_tensors="pt"
            )
        else:
            if image is None and self.architecture == "paligemma":
                image = Image.new("RGB", (112, 112))
            prompt = [(self.processor.image_token if image is not None else "") + words]
        found = self.processor(text=prompt, images=[image] if image is not None else None, return_tensors="pt")
        found.pop("labels", None)
        return found

    @torch.inference_mode()
    def states(self, sample: Sample, *, pre_norm: bool = False) -> np.ndarray:
        """(L, D) of one sample: the output of the final norm, or of the last decoder layer before it."""
        last_layer: list[torch.Tensor] = []
        language = next(
            found
            for name in ("language_model", "text_model", "")
            if (found := getattr(self.model.model, name, None) if name else self.model.model) is not None
        )
        hook = language.layers[-1].register_forward_hook(
            lambda _, inputs, output: last_layer.append(output[0] if isinstance(output, tuple) else output)
        )
        inputs = self.inputs(sample)
        output = self.model.model(**inputs)
        hook.remove()
        return (last_layer[0] if pre_norm else output.last_hidden_state)[0].numpy()

    @torch.inference_mode()
    def feature(self, sample: Sample) -> np.ndarray:
        """(D,) of a dual encoder for a text or an image, not normalised."""
        if sample.picture is not None:
            # the image processor by itself: Siglip2Processor would overrule the checkpoint's number of patches
            pixels = self.processor.image_processor(images=[sample.picture.load()], return_tensors="pt")
            return self.model.get_image_features(**pixels).pooler_output[0].numpy()
        if self.architecture in ("clip", "metaclip_2"):
            tokens = self.processor(text=[sample.text], return_tensors="pt", truncation=True)
            return self.model.get_text_features(**tokens).pooler_output[0].numpy()
        tokens = self.processor(
            text=[sample.text], padding="max_length", max_length=64, truncation=True, return_tensors="pt"
        )
        return self.model.get_text_features(input_ids=tokens["input_ids"]).pooler_output[0].numpy()
