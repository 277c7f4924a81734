"""Retrieval tasks as codes: from modalities to "it2i", and what the two numberings of M-BEIR folders say."""

from __future__ import annotations

import re

import numpy as np

from analysis.data.samples import MODALITIES, SHORT

TEXT, IMAGE = 1, 2  # bits of a modality; image_text has both
MODALITY_OF = {TEXT: "text", IMAGE: "image", TEXT | IMAGE: "image_text"}
_BITS_OF = {"text": TEXT, "image": IMAGE, "image,text": 3, "text,image": 3, "image_text": 3, "image-text": 3}

# Numbers in folder names: the paper's code counts from 1, M-BEIR from 0 and leaves 5 out; from 6 on they agree.
NUMBERINGS = {
    "paper": {1: "t2i", 2: "t2t", 3: "t2it", 4: "i2t", 5: "i2i", 6: "it2t", 7: "it2i", 8: "it2it"},
    "M-BEIR": {0: "t2i", 1: "t2t", 2: "t2it", 3: "i2t", 4: "i2i", 6: "it2t", 7: "it2i", 8: "it2it"},
}
CANDIDATE_POOLS = ("local", "global")  # as M-BEIR calls them: of one task, or of all of them
_NUMBER = re.compile(r"task_?(\d+)")


def modality_bits(name: object) -> int:
    """Bits of a modality as files spell it ("image,text", "Image, Text", ...); 0 for anything else."""
    if not isinstance(name, str):
        return 0
    return _BITS_OF.get(name) or _BITS_OF.get(name.replace(" ", "").lower(), 0)


def task_code(query_bits: int, candidate_bits: int) -> str:
    """The code of a task, e.g. "it2i", from the modality bits of its sides."""
    return f"{SHORT[MODALITY_OF[query_bits]]}2{SHORT[MODALITY_OF[candidate_bits]]}"


def task_name(code: str, folder: str = "") -> str:
    """What a store calls a task: its code, and the folder's name where several hold that code ("it2i-mbeir_cirr_task7")."""
    return f"{code}-{folder}" if folder else code


def code_of(name: str) -> str:
    """The code of a task by its name in a store: "it2i" of "it2i-mbeir_cirr_task7"."""
    return name.partition("-")[0]


def number_note(name: str, task: str, numbering: str) -> str:
    """One sentence where the number in a name says another task than the one found; empty where they agree.

    `numbering` is the one that this layout follows ("paper" or "M-BEIR").
    """
    match = _NUMBER.search(name)
    if match is None:
        return ""
    number = int(match.group(1))
    expected = NUMBERINGS[numbering].get(number)
    if expected == task:
        return ""
    says = f"{name} says task {number}, {expected or 'no task'} in the numbering of {_whose(numbering)}"
    other = next(key for key in NUMBERINGS if key != numbering)
    hint = f" (that of {_whose(other)})" if NUMBERINGS[other].get(number) == task else ""
    return f"{says}, but its files hold {task}{hint}: treated as {task}."


def _whose(numbering: str) -> str:
    return "the paper's code (from 1)" if numbering == "paper" else "M-BEIR (from 0)"


def main_modality(bits: np.ndarray) -> int:
    """The most frequent modality of some samples; the first of MODALITIES among equals."""
    counts = {code: int((bits == code).sum()) for code in MODALITY_OF}
    return max(counts, key=lambda code: (counts[code], -MODALITIES.index(MODALITY_OF[code])))


def mixture(bits: np.ndarray) -> str:
    """ "12 image, 3 text" where samples differ in modality; empty where they agree."""
    counts = {name: int((bits == code).sum()) for code, name in MODALITY_OF.items()}
    present = {name: count for name, count in counts.items() if count}
    return ", ".join(f"{count} {name}" for name, count in present.items()) if len(present) > 1 else ""
