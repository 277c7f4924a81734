"""Stores whose every free text speaks markdown, HTML and addresses: what a page shows of them must stay text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from analysis.store import open_store
from analysis.store.notebook import add_label
from tests import synthetic_store

EVIL = "evil.example"
POISON = (
    f"![p](http://{EVIL}/p.png) <img src=http://{EVIL}/q> https://{EVIL}/r www.{EVIL} s@{EVIL} [t](//{EVIL}) "
    f"<a href=//{EVIL}>a</a> **b** :red[u] $v$"
)


def make_hostile_store(cache: Path, **options: Any) -> Path:
    """A sound synthetic store with POISON in captions, names, notes, prompts, revisions, splits, defects, methods and tokens,
    and as the label of its first concepts."""

    def poisoned(name: str, change: Any) -> None:
        made = getattr(synthetic_store, name)
        patch.setattr(synthetic_store, name, lambda *given, **named: change(made(*given, **named)))

    def config(found: dict[str, Any]) -> dict[str, Any]:
        found["backbone"] |= {"model": POISON, "revision": POISON, "tap": POISON, "dtype": POISON}
        found["data"] |= {"name": POISON, "revision": POISON, "split": POISON}
        return found | {"prompts": POISON, "sample_code": POISON, "weighting": POISON}

    def world(found: Any) -> Any:
        found.samples["text"] = [f"{text} {POISON}" if text else "" for text in found.samples["text"]]
        for column in ("instruction", "source", "split", "licence"):
            found.samples[column] = POISON
        return found

    def task(found: dict[str, Any]) -> dict[str, Any]:
        return found | {"prompts": dict.fromkeys(("queries", "candidates"), POISON), "note": POISON}

    with pytest.MonkeyPatch.context() as patch:
        poisoned("_config", config)
        poisoned("_world", world)
        poisoned("_task", task)
        poisoned("_facts", lambda found: found | {"defects": [POISON] * 3, "notes": [POISON], "pairs_from": "data"})
        poisoned("_concepts", lambda found: found.assign(name=[POISON] * len(found)))
        poisoned("_results", lambda found: found.assign(method=[f"{name} {POISON}" for name in found["method"]]))
        path = synthetic_store.make_store(cache, **options)
    sae = str(open_store(path).config["sae"]["sha256"])
    for concept in range(3):
        add_label(cache / "notes", sae, concept, POISON[:200], POISON[:80])
    return path


def speaks(markdown: str) -> str:
    """The part of a markdown text in which POISON is more than text, "" where there is none. Code spans hold what they like."""
    text = re.sub(r"(?<!\\)`[^`]*`", "", markdown)
    for pattern in (
        rf"https?://{re.escape(EVIL)}", rf"www\.{re.escape(EVIL)}", rf"\w@{re.escape(EVIL)}", r"(?<!\\)\]\((?!/\w)",
        r"(?<!\\)<img",
        r"(?<!\\)\*\*b", r"(?<!\\):red(?!-)\[u", r"(?<!\\)\$v",
    ):  # fmt: skip
        if found := re.search(pattern, text):
            return text[max(0, found.start() - 60) : found.end() + 20]
    return ""
