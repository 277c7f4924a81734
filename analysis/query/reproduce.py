"""A view of the live page as a command and as Python: both print the ranking that the page shows."""

from __future__ import annotations

import shlex
from dataclasses import dataclass


@dataclass(frozen=True)
class LiveView:
    """Everything that decides a live ranking. store: its folder as one types it; picture: a file name ("" without one);
    query: position of a cached query of the task, instead of a picture and a text; mask and method: text forms;
    mask of a cached query: none, its pooling is part of the method (`pool:`)."""

    store: str
    task: str
    picture: str = ""
    text: str = ""
    query: int | None = None
    mask: str = ""
    method: str = "base"
    device: str = "cpu"
    dtype: str = "float32"
    top: int = 10


def command_for(view: LiveView) -> str:
    """The shell command, run from the project's folder."""
    if view.query is not None:
        parts = ["retrieve", view.store, "--task", view.task, "--query", str(view.query), "--top", str(view.top)]
        parts += ["--method", view.method] if view.method != "base" else []
        return _shell(parts)
    parts = ["query", view.store, "--task", view.task]
    parts += ["--image", view.picture] if view.picture else []
    parts += ["--text", view.text] if view.text else []
    parts += ["--mask", view.mask] if view.mask else []
    parts += ["--method", view.method] if view.method != "base" else []
    parts += ["--device", view.device, "--dtype", view.dtype, "--top", str(view.top)]
    return _shell(parts)


def why_command_for(view: LiveView, side: str, place: int = 0) -> str:
    """The shell command that explains what changed (side "change"), or a place of one list: `query --why`, or
    `retrieve --why` of a cached query, which compares its target with the best wrong candidate."""
    return f"{command_for(view)} --why {side}" + (f" --place {place}" if view.query is None and place else "")


def python_for(view: LiveView) -> str:
    """A script of the public API. It prints one line a candidate: rank, similarity, id and text."""
    if view.query is not None:
        return _CACHED.format(
            store=view.store, task=view.task, query=view.query, method=view.method, top=view.top,
        )  # fmt: skip
    picture = f"Path({view.picture!r}).read_bytes()" if view.picture else "None"
    return _LIVE.format(
        store=view.store, task=view.task, picture=picture, text=view.text, mask=view.mask, method=view.method,
        device=view.device, dtype=view.dtype, top=view.top,
    )  # fmt: skip


def _shell(parts: list[str]) -> str:
    return ".venv/bin/python -m analysis " + " ".join(shlex.quote(part) for part in parts)


_HEAD = """from analysis.retrieval.interventions import parse
from analysis.retrieval.task import space_from_store
from analysis.store import open_store
"""
_TAIL = """for place in ranking.places("after", {top}):
    sample = store.samples.loc[store.task({task!r}).candidate_rows[place.candidate]]
    print(place.rank, round(place.similarity, 4), sample["sample_id"], sample["text"])
"""
_LIVE = (
    """from pathlib import Path

from analysis.query.compatibility import check_compatible, request_for
from analysis.query.masks import parse_mask
from analysis.query.query import embed_query
from analysis.query.applied import rank_query
from analysis.query.slot import load_request
"""
    + _HEAD
    + """
store = open_store({store!r})
backbone = load_request(request_for(store, device={device!r}, dtype={dtype!r}))
query = embed_query(backbone, picture={picture}, text={text!r}, prompts=store.config["prompts"], task={task!r})
check_compatible(store, query)
space = space_from_store(store, {task!r})
ranking = rank_query(query, space, mask=parse_mask({mask!r}), intervention=parse({method!r}))
"""
    + _TAIL
)
_CACHED = (
    """from analysis.retrieval.evaluation.comparison import compare
from analysis.retrieval.interventions.fitting import fit
"""
    + _HEAD
    + """
store = open_store({store!r})
space = space_from_store(store, {task!r})
base, changed = fit(parse("base"), space), fit(parse({method!r}), space)
h_before = space.rows("queries", "mean")[{query}]
h_after = space.rows("queries", changed.intervention.pool.queries)[{query}]
ranking = compare(base, changed, h_before, h_after)
"""
    + _TAIL
)
