"""Names of concepts by a vision-language model: it sees samples of one half of the pairs, its words are tested on the other,
and what it says is one more author's label. A person's label is never replaced."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analysis.build.extraction import Progress, Say
from analysis.build.files import disk_errors_of, only_one
from analysis.build.rescore import pair_rows
from analysis.build.score import evidence_of
from analysis.concepts import examples
from analysis.concepts.evidence import Evidence
from analysis.concepts.held_out import SUPPORTED_F1, label_f1
from analysis.errors import BackboneError, DataError
from analysis.models.chat import Chat
from analysis.store.notebook import add_label, history
from analysis.store.read import Store

if TYPE_CHECKING:
    from PIL import Image

PICTURES, CAPTIONS, SIDE = 6, 6, 224
LONGEST = 80  # characters of a name
BAD_IN_A_ROW = 3  # answers that are no name, after which the model is given up
NOTHING = "nothing"
QUESTION = (
    "One unit of a neural network fires most strongly on these samples: {samples}\n"
    "What do they share that most others lack? Answer with one to five words and nothing else; if they share nothing, "
    f"answer: {NOTHING}"
)


@dataclass(frozen=True)
class Named:
    """What a model said of a concept. name: "" for no shared meaning, or where its answer was none; f1: of its words on samples
    that it did not see, NaN where they could not be tested; kept: it became a label."""

    concept: int
    name: str
    f1: float
    kept: bool
    problem: str = ""


def chosen(store: Store, asked: Sequence[int], *, limit: int, unnamed: bool) -> list[int]:
    """The concepts that are asked about: those named, or the loudest live ones (unnamed: without an automatic name)."""
    energy = store.concepts["energy"].to_numpy()
    if wrong := [concept for concept in asked if not 0 <= concept < store.n_concepts]:
        raise DataError(f"{store.name} has no concept {wrong[0]}; expected 0 to {store.n_concepts - 1}.")
    if asked:
        return list(dict.fromkeys(asked))
    ids = np.argsort(-energy, kind="stable")
    wanted = (energy > 0) & ((store.concepts["name"].fillna("") == "").to_numpy() | (not unnamed))
    return [int(concept) for concept in ids if wanted[concept]][:limit]


def plan(store: Store, concepts: Sequence[int], where: str) -> str:
    """What would be sent, in one sentence."""
    there = f"sent to {where}" if where.startswith("http") else f"read by {where} on this machine"
    return (
        f"{len(concepts)} concepts of {store.label}: of each up to {PICTURES} pictures of at most {SIDE} pixels and up to "
        f"{CAPTIONS} captions ({store.facts.get('counts', {}).get('images', 0):,} pictures, {store.n_samples:,} samples are in "
        f"the store) are {there}; nothing else is."
    )


def name_concepts(
    store: Store, concepts: Sequence[int], chat: Chat, *, say: Say = print, progress: Progress | None = None
) -> list[Named]:
    """Ask about every concept that this model was not asked about before, keep what it says as its label, and return all
    answers. Each is on the disk before the next is asked: stopped and given again, it goes on."""
    progress = progress or (lambda step, done, total: None)
    safe = re.sub(r"[^\w.-]+", "_", chat.name)[:60]
    work = store.cache_dir / "work" / f"naming-{store.name}-{safe}"
    file = work / "answers.jsonl"
    evidence = evidence_of(store.samples["text"].tolist(), pair_rows(store))
    found: list[Named] = []
    bad = 0
    with only_one(work, "naming these concepts"), disk_errors_of("The answers"):
        known = _kept(file)
        for done, concept in enumerate(concepts):
            progress("name", done, len(concepts))
            if concept in known:
                found.append(known[concept])
                continue
            one = _ask(store, concept, chat, evidence)
            found.append(one)
            if one.problem:  # asked again next time
                say(f"Concept {concept}: {one.problem}")
                bad += 1
                if bad >= BAD_IN_A_ROW:
                    raise BackboneError(
                        f"{chat.name} gave {bad} answers in a row that are no names, the last to concept {concept}: "
                        f"{one.problem} Choose a chat model that reads pictures and follows instructions."
                    )
                continue
            bad = 0
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(vars(one)) + "\n")
        progress("name", len(concepts), len(concepts))
    return found


def shown(store: Store, concept: int, evidence: Evidence) -> tuple[list[Image.Image], list[str]]:
    """(pictures, captions) of the strongest samples among the half that a model may see."""
    from PIL import Image

    rows, values = store.postings.rows(concept)
    seen = evidence.half[rows] == 0 if (evidence.half >= 0).any() else np.ones(len(rows), bool)
    kind = examples.kinds(store.samples["modality"].to_numpy(), store.samples["pair_id"].to_numpy())
    images, texts = examples.split(rows[seen], values[seen], kind)
    pictures = []
    for row in images.rows[:PICTURES]:
        path = store.thumb_path(int(row))
        if path is not None and path.is_file():
            with Image.open(path) as opened:
                picture = opened.convert("RGB")
            picture.thumbnail((SIDE, SIDE))
            pictures.append(picture)
    words = store.samples["text"].to_numpy(object)
    return pictures, [str(words[row])[:200] for row in examples.distinct(texts, words, CAPTIONS).rows]


def cleaned(answer: str) -> str:
    """A name from an answer: its first line, without quotes, full stop and what a model says before it."""
    lines = [line.strip() for line in answer.replace("<", " <").splitlines() if line.strip()]
    line = re.sub(r"^(?:answer|name|they (?:all )?share)\s*:\s*", "", lines[0] if lines else "", flags=re.IGNORECASE)
    return " ".join(line.strip(" \t\"'“”*`.").split())


def _ask(store: Store, concept: int, chat: Chat, evidence: Evidence) -> Named:
    nan = float("nan")
    pictures, captions = shown(store, concept, evidence)
    if not pictures and not captions:
        return Named(concept, "", nan, False)
    listed = [f"{len(pictures)} pictures"] if pictures else []
    listed += ["these captions:\n" + "\n".join(f"- {caption}" for caption in captions)] if captions else []
    question = QUESTION.format(samples=" and ".join(listed))
    name = cleaned(chat.ask(question, pictures))
    if not name:
        return Named(concept, "", nan, False, "the answer is empty where one to five words were asked for.")
    if len(name) > LONGEST:
        return Named(
            concept, "", nan, False, f"the answer begins “{name[:40]}” and goes on beyond {LONGEST} characters."
        )
    if name.casefold() == NOTHING:
        return Named(concept, "", nan, False)
    modality = store.concepts["modality_score"].to_numpy(float)[concept]
    f1 = label_f1(store.codes, evidence, concept, float(modality), name)
    notes, sha = store.cache_dir / "notes", str(store.config["sae"]["sha256"])
    people = [label for label in history(notes, sha, concept) if label.author != author(chat)]
    if people:
        return Named(concept, name, f1, False)
    add_label(notes, sha, concept, name, author(chat))
    return Named(concept, name, f1, True)


def author(chat: Chat) -> str:
    """What stands beside its labels."""
    return f"{chat.name[:60]} (model)"


def lines(found: Sequence[Named], store: Store) -> Iterator[str]:
    """Each answer beside the automatic name, with its test."""
    for one in found:
        automatic = str(store.concepts["name"].iat[one.concept] or "") or "no shared meaning found"
        if one.problem:
            said = f"no answer: {one.problem}"
        elif not one.name:
            said = "no shared meaning"
        else:
            test = "not tested" if one.f1 != one.f1 else f"F1 {one.f1:.2f} on unseen samples"
            weak = ", not supported" if one.f1 < SUPPORTED_F1 else ""
            said = f"{one.name}  [{test}{weak}]{'' if one.kept else '  (not kept: somebody else named it)'}"
        yield f"{one.concept:>6}  {said}  | automatic: {automatic}"


def _kept(file: Path) -> dict[int, Named]:
    """Answers of an earlier run; a line that a kill cut off is asked again."""
    found: dict[int, Named] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        try:
            one = Named(**json.loads(line))
        except (ValueError, TypeError):
            continue
        found[one.concept] = one
    return found
