"""The instruction sentences that an MLLM reads after the content, as named data. The name goes into the manifest.

One user message is: picture, text, instruction. Dual encoders read no instruction.
"""

from __future__ import annotations

import difflib
from types import MappingProxyType

from analysis.errors import AnalysisError

Rule = tuple[str | None, str | None, str]  # task, side, modality; None stands for any

_IMAGE = "\nSummarize the above image in one word: "
_TEXT = "\nSummarize the above sentence in one word: "
_BOTH = "\nSummarize the above image and the sentence in one word: "
_BOTH_SHORT = "\nSummarize above image and sentence in one word: "
_QUESTION = "\nSummarize the above image with the question in one word: "

# `paper`: the sentences of the authors' code, per task and side; what it does not name falls back on the modality.
# `uniform`: one sentence per modality, so that a sample has one embedding whatever task it serves.
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
    }
)


def instruction_for(prompts: str, task: str | None, side: str | None, modality: str) -> str:
    """The instruction of one kind of sample, for example ("paper", "it2i", "query", "image_text").

    task: "t2i" ... or None for pairs that belong to no task; side: "query", "candidate" or None. The first of
    (task, side), then the modality alone decides. Raises AnalysisError for unknown prompts or modality.
    """
    if prompts not in PROMPTS:
        near = difflib.get_close_matches(prompts, PROMPTS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise AnalysisError(f"No prompts are called {prompts!r}; expected one of {', '.join(PROMPTS)}.{hint}")
    rules = PROMPTS[prompts]
    sentence = rules.get((task, side, modality)) or rules.get((None, None, modality))
    if sentence is None:
        raise AnalysisError(
            f"Prompts {prompts!r} have no sentence for modality {modality!r}; expected image, text or image_text."
        )
    return sentence
