"""The instruction sentences that an MLLM reads after the content, as named data. The name goes into the manifest.

One user message is: picture, text, instruction. Dual encoders read no instruction.
"""

from __future__ import annotations

import difflib
from types import MappingProxyType

from analysis.errors import AnalysisError

Rule = tuple[str | None, str | None, str]  # task, side, modality; None stands for any

_MODALITIES = ("image", "text", "image_text")
_IMAGE = "\nSummarize the above image in one word: "
_TEXT = "\nSummarize the above sentence in one word: "
_BOTH = "\nSummarize the above image and the sentence in one word: "
_BOTH_SHORT = "\nSummarize above image and sentence in one word: "
_QUESTION = "\nSummarize the above image with the question in one word: "

# `paper`: the sentences of the authors' code, per task and side; what it does not name falls back on the modality.
# `uniform`: one sentence per modality, so that a sample has one embedding whatever task it serves.
# The others are what embedding models were trained with; their rows in specs.py say where the sentence stands and where
# it comes from. "" is a text that such a model reads without an instruction.
PROMPTS: MappingProxyType[str, dict[Rule, str]] = MappingProxyType(
    {
        "paper": {
            ("it2t", "query", "image_text"): _BOTH_SHORT,
            ("t2it", "candidate", "image_text"): _BOTH_SHORT,
            ("it2i", "query", "image_text"): _QUESTION,
            (None, None, "image"): _IMAGE,
            (None, None, "text"): _TEXT,
            (None, None, "image_text"): _BOTH,  # it2it, both sides
        },
        "uniform": {
            (None, None, "image"): _IMAGE,
            (None, None, "text"): _TEXT,
            (None, None, "image_text"): _BOTH,
        },
        # Qwen3-VL-Embedding README: queries with the second sentence, everything else with the default of the first.
        "qwen3-vl-embedding": {
            **dict.fromkeys(((None, None, kind) for kind in _MODALITIES), "Represent the user's input."),
            **dict.fromkeys(
                ((None, "query", kind) for kind in _MODALITIES), "Retrieve images or text relevant to the user's query."
            ),
        },
        # gme_inference.py: candidates always get the default; the one query sentence that the model card shows is t2i's.
        "gme": {
            **dict.fromkeys(((None, None, kind) for kind in _MODALITIES), "You are a helpful assistant."),
            ("t2i", "query", "text"): "Find an image that matches the given text.",
        },
        # VLM2Vec's demo_v2_image.py and the MMEB sentences of MSCOCO; mteb's wrapper joins the parts by single spaces.
        "vlm2vec": {
            (None, None, "image"): " Represent the given image.",
            (None, None, "text"): "",
            (None, None, "image_text"): " Represent the given image with the following question: ",
            ("i2t", "query", "image"): " Find an image caption describing the given everyday image.",
            ("t2i", "query", "text"): "Find me an everyday image that matches the given caption: ",
        },
        # retrieval.py of kongds/E5-V; its spelling of the composed sentence is the authors'.
        "e5-v": {
            (None, None, "image"): "\nSummary above image in one word: ",
            (None, None, "text"): "\nSummary above sentence in one word: ",
            (None, None, "image_text"): '", desribe modified image in one word:',
        },
    }
)


def instruction_for(prompts: str, task: str | None, side: str | None, modality: str) -> str:
    """The instruction of one kind of sample, for example ("paper", "it2i", "query", "image_text").

    task: "t2i" ... or None for pairs that belong to no task; side: "query", "candidate" or None. The first of
    (task, side), the side, the modality alone decides. Raises AnalysisError for unknown prompts or modality.
    """
    if prompts not in PROMPTS:
        near = difflib.get_close_matches(prompts, PROMPTS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise AnalysisError(f"No prompts are called {prompts!r}; expected one of {', '.join(PROMPTS)}.{hint}")
    rules = PROMPTS[prompts]
    ways = ((task, side, modality), (None, side, modality), (None, None, modality))
    sentence = next((rules[way] for way in ways if way in rules), None)
    if sentence is None:
        raise AnalysisError(
            f"Prompts {prompts!r} have no sentence for modality {modality!r}; expected image, text or image_text."
        )
    return sentence
