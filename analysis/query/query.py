"""A visitor's query: picture and text -> token states in one forward pass -> an embedding under any mask, at once."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.data.pictures import picture_notes
from analysis.data.samples import Picture, Sample
from analysis.data.tasks import code_of
from analysis.errors import BackboneError, DataError
from analysis.models.pooling import Role, pool_states
from analysis.models.results import TokenStates
from analysis.query.masks import NO_MASK, ROLE_NAMES, TokenMask

if TYPE_CHECKING:
    from analysis.models.backbones import Backbone


@dataclass(frozen=True)
class LiveQuery:
    """One query with its hidden states; it needs no model any more.

    model: what identifies the backbone and how it was run, as a store's config holds it; prompts: the name of the
    instruction sentences; notes: what the visitor should know (a text that was cut, ...).
    """

    sample: Sample
    tokens: TokenStates
    model: dict[str, Any]
    prompts: str
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def modality(self) -> str:
        return self.sample.modality

    @property
    def maskable(self) -> bool:
        """Whether the embedding is a mean of tokens. That of a dual encoder or an embedding model is not: its tokens are shown,
        not masked."""
        return self.tokens.pooled is None

    @property
    def unmaskable(self) -> str:
        """Why nothing can be masked, a part of a sentence."""
        kind = "is a dual encoder" if self.model.get("contrastive") else "was trained to give one vector"
        return f"{self.model['key']} {kind}: its embedding is not a mean of tokens"

    @property
    def role_names(self) -> list[str]:
        return [ROLE_NAMES.get(role, "pad") for role in self.tokens.roles.tolist()]

    def embedding(self, mask: TokenMask = NO_MASK) -> np.ndarray:
        """(D,) float32, un-normalised: the pooled hidden states without the masked tokens. No forward pass.

        Raises BackboneError when no token is left, and for any mask on a dual encoder or an embedding model.
        """
        if self.tokens.pooled is not None:
            if mask:
                raise BackboneError(f"{self.unmaskable}, so nothing can be masked; choose an MLLM for that.")
            return self.tokens.pooled
        return pool_states(self.tokens.states, mask.keep(self.tokens.roles))


def embed_query(
    backbone: Backbone,
    *,
    picture: bytes | None = None,
    text: str = "",
    prompts: str | None = None,
    task: str | None = None,
    name: str = "your picture",
) -> LiveQuery:
    """One forward pass over a picture, a text, or both.

    prompts: None for the backbone's own, those that an embedding model was trained with. task: its name in a store ("it2i",
    "it2i-mbeir_cirr_task7"); the instruction is that of its queries where the prompts have one for this modality, else the
    one of the modality. Raises DataError for an empty query or a picture that cannot be read, UnsupportedModality for
    image + text on a dual encoder, BackboneError when the model fails. A text that is longer than the model reads is cut,
    with a note.
    """
    prompts = prompts or backbone.spec.prompts
    return embed_sample(backbone, query_sample(picture, text, prompts, task, name), prompts=prompts)


def embed_sample(backbone: Backbone, sample: Sample, *, prompts: str) -> LiveQuery:
    """As `embed_query`, of the sample that `query_sample` made: its picture is not decoded a second time."""
    from analysis.models.backbones import backbone_config

    notes = () if sample.picture is None else picture_notes(sample.picture.bytes(), sample.picture.label)
    start = time.perf_counter()
    tokens = backbone.tokens(sample)
    if tokens.truncated:
        read = int((tokens.roles == Role.TEXT).sum())
        notes += (
            f"The text ({len(sample.text):,} characters) is longer than the model reads; its first {read:,} tokens are used.",
        )
    kept = replace(sample, picture=None if sample.picture is None else sample.picture.packed())
    return LiveQuery(kept, tokens, backbone_config(backbone), prompts, time.perf_counter() - start, notes)


def query_sample(
    picture: bytes | None, text: str, prompts: str, task: str | None, name: str = "your picture"
) -> Sample:
    """The sample of a query with its instruction and its picture decoded: the sentence about a bad one comes before any
    model is loaded. DataError for an empty query."""
    from analysis.models.prompts import instruction_for

    text = text.strip()
    if picture is None and not text:
        raise DataError("The query is empty; give a picture, a text, or both.")
    modality = "text" if picture is None else "image_text" if text else "image"
    code = None if task is None else code_of(task)
    return Sample(
        "query",
        modality,
        text=text,
        picture=None if picture is None else Picture(data=picture, name=name).decoded(),
        instruction=instruction_for(prompts, code, "query", modality),
    )
