"""Whether a live query may be compared with a store's candidates: the same weights, tap, prompts and pooling, or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.data.samples import SHORT
from analysis.errors import BackboneError
from analysis.query.slot import ModelRequest
from analysis.retrieval.interventions.fitting import query_steps

if TYPE_CHECKING:
    from analysis.query.applied import Applied
    from analysis.query.query import LiveQuery
    from analysis.store import Store

# What decides whether two vectors live in one space, in the order in which a difference is worth saying.
_FIELDS = {
    "model_type": "architecture",
    "revision": "revision of the weights",
    "tap": "layer the states are taken from (tap)",
    "width": "width",
    "pooling": "token that an embedding model pools",
    "fusion": "way to join image and text",
    "dummy_image": "treatment of PaliGemma's dummy picture",
}


def no_model(store: Store) -> str:
    """What to say of a store whose embeddings were imported."""
    return (
        f"The embeddings of {store.label} were imported, so there is no model here that could embed a query in the same way; "
        "everything else works on this store, the queries in its data too."
    )


def request_for(store: Store, *, device: str = "auto", dtype: str | None = None) -> ModelRequest:
    """The backbone that made a store, run in the same way. BackboneError where its embeddings were imported."""
    from analysis.models.specs import BACKBONES

    if not store.has_model:
        raise BackboneError(no_model(store))

    made_by = store.config["backbone"]
    name = made_by["key"] if made_by["key"] in BACKBONES else made_by["model"]
    local = str(made_by["revision"]).startswith("local-")
    return ModelRequest(
        name,
        device,
        dtype,
        made_by.get("tap"),
        None if local else made_by["revision"],
        made_by.get("fusion"),
        made_by.get("dummy_image") or "exclude",
        made_by["model"] if local and name in BACKBONES and not made_by.get("demo") else None,
    )


def mismatches(store_config: dict[str, Any], model: dict[str, Any], prompts: str) -> list[str]:
    """Why a query embedded by `model` (backbone_config) with `prompts` cannot be compared with a store's candidates, one
    sentence a difference; empty when it can."""
    made_by = store_config["backbone"]
    found = [
        f"the {words} is {model.get(field)!r}, the store's is {made_by.get(field)!r}"
        for field, words in _FIELDS.items()
        if made_by.get(field) != model.get(field)
    ]
    if store_config.get("prompts") != prompts and not made_by.get("contrastive"):
        found.append(f"the prompts are {prompts!r}, the store's are {store_config.get('prompts')!r}")
    return found


def check_request(store: Store, request: ModelRequest) -> None:
    """BackboneError with every reason why a model's queries will not fit the candidates of a store, from the model's
    config alone: no weights are read or fetched. Raises what `open_backbone` raises; imports transformers."""
    from analysis.models.backbones import open_backbone

    opened = open_backbone(request.name, revision=request.revision, tap=request.tap, weights=request.weights)
    model = {
        "model_type": opened.spec.model_type,
        "revision": opened.checkpoint.revision,
        "tap": opened.spec.tap,
        "width": opened.spec.width,
        "pooling": opened.spec.pooling if opened.spec.trained_to_embed else None,
        "fusion": request.fusion,
        "dummy_image": request.dummy_image,
    }
    reasons = mismatches(store.config, model, store.config["prompts"])
    if reasons:
        raise BackboneError(
            f"{request.short_name} is not loaded, since the candidates of {store.label} were not embedded in the same "
            f"way: {'; '.join(reasons)}. Choose the store's own backbone, {store.config['backbone']['key']}, or one of "
            f"the stores of {request.short_name}."
        )


def check_compatible(store: Store, query: LiveQuery) -> None:
    """BackboneError with every reason why a live query does not fit the candidates of a store."""
    reasons = mismatches(store.config, query.model, query.prompts)
    if reasons:
        raise BackboneError(
            f"The query was embedded by {query.model['key']}, the candidates of {store.label} were not embedded in the "
            f"same way: {'; '.join(reasons)}. Load the store's own backbone or choose one of its stores."
        )


def statistics_note(task: str, query: LiveQuery, changes: Applied) -> str:
    """What to know when an intervention uses statistics of a task's queries: the query is of another kind than those, or
    it is masked in a way that no stored query is. "" when there is nothing to say."""
    expected, given = task.split("2")[0], SHORT[query.modality]
    used = [step.label for step in query_steps(changes.intervention)]
    sentences = []
    centring = [step.label for step in changes.intervention.steps if step.centres_queries]
    if expected != given and centring:
        words = {"i": "pictures", "t": "texts", "it": "pictures with a text"}
        sentences.append(
            f"The queries of {task} are {words[expected]}, yours is of another kind: {' and '.join(centring)} uses what "
            f"was measured on {words[expected]}, which need not suit it."
        )
    if changes.variant is None and used:
        sentences.append(
            f"{' and '.join(used)} uses what was measured on unmasked queries: the store holds none with this mask "
            f"({changes.mask.label})."
        )
    return " ".join(sentences)


def fusion_note(query: LiveQuery) -> str:
    """How a dual encoder joined picture and text, else ""."""
    fusion = query.model.get("fusion")
    if query.modality != "image_text" or not fusion:
        return ""
    return f"{query.model['key']} reads picture and text apart; the query is their {str(fusion).replace('_', ' ')}."


def precision_note(store: Store, query: LiveQuery) -> str:
    """A sentence when query and candidates were computed in different number formats, else ""."""
    mine, theirs = query.model.get("dtype"), store.config["backbone"].get("dtype")
    if mine == theirs:
        return ""
    return (
        f"The candidates were embedded in {theirs}, your query in {mine}: similarities may differ in the third digit."
    )
