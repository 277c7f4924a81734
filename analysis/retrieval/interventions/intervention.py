"""Interventions: steps in their order, with a name for people and one text form for machines.

The text form stands in URLs, commands and pinned findings: steps joined by "+", each `name:value,key=value`, e.g.
`removal:attribution,share=0.01,r=20+realign:alpha=0.1`, or `base` for none. `parse(text).spec` is its canonical form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

from analysis.errors import RetrievalError
from analysis.retrieval.interventions.steps import (
    STEPS,
    ConceptSpace,
    Edit,
    Fusion,
    Pool,
    Removal,
    Rerank,
    Step,
    one_of,
)

_FIRST, _LAST = (Pool, Edit, ConceptSpace), (Rerank, Fusion)  # what the linear steps between them act on


@dataclass(frozen=True)
class Intervention:
    """Steps in the order of their application; none of them is the base. Pool, edit and concept space decide what the
    embeddings are and come first, the linear steps follow in the order given, a hybrid comes last."""

    steps: tuple[Step, ...] = ()
    title: str = ""  # a name given by the user; the label says the same in words otherwise

    def __post_init__(self) -> None:
        def place(step: Step) -> int:
            return _FIRST.index(type(step)) if isinstance(step, _FIRST) else 9 if isinstance(step, _LAST) else 5

        object.__setattr__(self, "steps", tuple(sorted((s for s in self.steps if s != Pool()), key=place)))
        for kind in (*_FIRST, _LAST):
            if sum(isinstance(step, kind) for step in self.steps) > 1:
                raise RetrievalError(f"{self.spec!r} has two steps of one kind that exclude each other; expected one.")

    @property
    def spec(self) -> str:
        """Canonical text form: `parse(self.spec)` has the same steps."""
        return "+".join(_format(step) for step in self.steps) or "base"

    @property
    def label(self) -> str:
        return self.title or " + ".join(step.label for step in self.steps) or "base"

    @property
    def pool(self) -> Pool:
        return self._only(Pool) or Pool()

    @property
    def edit(self) -> Edit | None:
        return self._only(Edit)

    @property
    def concept_space(self) -> ConceptSpace | None:
        return self._only(ConceptSpace)

    @property
    def linear(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if not isinstance(step, _FIRST + _LAST))

    @property
    def hybrid(self) -> Rerank | Fusion | None:
        return self._only(Rerank) or self._only(Fusion)

    def without_hybrid(self) -> Intervention:
        return Intervention(tuple(step for step in self.steps if not isinstance(step, _LAST)), self.title)

    def with_pool(self, pool: Pool) -> Intervention:
        """The same with other embeddings."""
        return Intervention((pool, *(step for step in self.steps if not isinstance(step, Pool))), self.title)

    def seeds(self) -> tuple[Intervention, ...]:
        """One intervention per seed of its random removal; itself when there is nothing to repeat."""
        counts = [step.seeds for step in self.steps if isinstance(step, Removal) and step.score == "random"]
        if max(counts, default=1) == 1:
            return (self,)
        return tuple(
            Intervention(
                tuple(
                    replace(step, seed=step.seed + i, seeds=1)
                    if isinstance(step, Removal) and step.score == "random"
                    else step
                    for step in self.steps
                )
            )
            for i in range(max(counts))
        )

    def to_dict(self) -> dict[str, str]:
        """JSON-ready: the spec says everything, the title is the user's."""
        return {"spec": self.spec, "title": self.title}

    @staticmethod
    def from_dict(raw: Mapping[str, str]) -> Intervention:
        return Intervention(parse(raw.get("spec", "base")).steps, raw.get("title", ""))

    def _only(self, kind: Any) -> Any:
        return next((step for step in self.steps if isinstance(step, kind)), None)


def parse(text: str) -> Intervention:
    """The intervention that a text form means. "base" or an empty text mean none; a blank counts as "+", which is what
    a browser makes of an unescaped plus. RetrievalError names what is wrong in a text."""
    words = re.sub(r"\s*([:,=])\s*", r"\1", text.strip())
    parts = [part for part in re.split(r"[+\s]+", words) if part and part != "base"]
    return Intervention(tuple(_parse_step(part) for part in parts))


BASE = Intervention()

# The field that stands without its key, and the fields that are written even where they have their default.
_POSITIONAL = {"removal": "score", "codes": "weights", "centring": "means"}
_SHOWN = {"removal": ("share",), "realign": ("alpha",), "pca": ("n",), "rerank": ("n",), "fusion": ("weight",)}
_READ: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("share", "alpha", "eps", "weight"), float),
    **dict.fromkeys(("r", "seed", "seeds", "n"), int),
    "centred": lambda text: {"true": True, "false": False}[text.lower()],
}


def _format(step: Step) -> str:
    if isinstance(step, Edit):
        return f"{step.name}:" + ",".join(f"{concept}={_text(scale)}" for concept, scale in step.scales)
    if isinstance(step, Pool) and step.queries == step.candidates:
        return f"{step.name}:{step.queries}"
    picked = isinstance(step, Removal) and step.score == "concepts"
    written = []
    for field in fields(step):
        value = getattr(step, field.name)
        if field.name == _POSITIONAL.get(step.name):
            written += [] if picked else [str(value)]
        elif field.name == "concepts":
            written += [f"concepts={','.join(map(str, value))}"] if picked else []
        elif value != field.default or (field.name in _SHOWN.get(step.name, ()) and not picked):
            written.append(f"{field.name}={_text(value)}")
    return step.name + (":" + ",".join(written) if written else "")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parse_step(text: str) -> Step:
    name, _, rest = text.partition(":")
    one_of("step", name, ("base", *STEPS))
    words = [word for word in rest.split(",") if word]
    if name == "edit":
        return Edit(tuple(_scale(word) for word in words))
    if name == "pool" and len(words) == 1 and "=" not in words[0]:
        return Pool(words[0], words[0])
    values: dict[str, Any] = {}
    known = [field.name for field in fields(STEPS[name]) if field.default is not MISSING]
    for position, word in enumerate(words):
        key, given, value = word.partition("=")
        if not given and "concepts" in values and word.isdigit():
            values["concepts"] += (int(word),)
        elif not given and position == 0 and name in _POSITIONAL:
            values[_POSITIONAL[name]] = word
        else:
            one_of(f"setting of {name}", key, known)
            values[key] = _value(name, key, value)
    if values.get("concepts"):
        values.setdefault("score", "concepts")
    return STEPS[name](**values)


def _value(name: str, key: str, text: str) -> Any:
    try:
        return (int(text),) if key == "concepts" else _READ.get(key, str)(text)
    except (ValueError, KeyError) as error:
        raise RetrievalError(f"{key} of {name} is {text!r}; expected a {_kind(key)}.") from error


def _kind(key: str) -> str:
    if key == "centred":
        return "value true or false"
    return "number" if _READ.get(key) is float else "whole number"


def _scale(word: str) -> tuple[int, float]:
    try:
        concept, scale = word.split("=")
        return int(concept), float(scale)
    except ValueError as error:
        raise RetrievalError(f"{word!r} is no scaled concept; expected concept=scale, e.g. edit:12=0,99=2.") from error
