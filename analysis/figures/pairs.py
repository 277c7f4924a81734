"""Why a candidate wins: the contributions of concepts to the similarity with the target and with the wrong winner."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.palette import HATCH, LOST, NEUTRAL, TARGET, rgba
from analysis.figures.style import TICK_SIZE, concept_label, finish, plain, score, sentence
from analysis.retrieval.attribution import UNEXPLAINED_WORDS, signed

OTHERS = "all other concepts"
TOTAL = "<b>similarity = sum</b>"
_PALE = 0.5  # what is no single concept


class PairContributions(Protocol):
    """What analysis.retrieval.attribution.explain_pair gives: contributions, `shift` and `unexplained` add up to
    `similarity`."""

    @property
    def concept_ids(self) -> np.ndarray: ...
    @property
    def contribution(self) -> np.ndarray: ...
    @property
    def shift(self) -> float: ...
    @property
    def shift_words(self) -> str: ...
    @property
    def unexplained(self) -> float: ...
    @property
    def similarity(self) -> float: ...


def pair_table(
    target: PairContributions, wrong: PairContributions, *, names: Mapping[int, str], top: int = 10
) -> pd.DataFrame:
    """Contributions side by side: the `top` concepts by |difference|, the others, what subtracted means and a decoder bias
    give (where there are any), the unexplained part, the sum.

    Columns: concept (id, -1 in the last rows), label, target, wrong, difference = target - wrong. In each column all rows
    but the last add up to the last, the cosine similarity.
    """
    merged = pd.DataFrame({"target": _by_concept(target), "wrong": _by_concept(wrong)}).fillna(0.0)
    merged["difference"] = merged["target"] - merged["wrong"]
    order = merged["difference"].abs().sort_values(ascending=False, kind="stable").index
    merged = merged.loc[order]
    shown, rest = merged.iloc[:top], merged.iloc[top:].sum()
    rows = [
        {"concept": int(i), "label": concept_label(int(i), names), **part.to_dict()} for i, part in shown.iterrows()
    ]
    shift = target.shift_words if target.shift else wrong.shift_words
    parts = [
        (f"{OTHERS} ({max(0, len(merged) - top)})", float(rest["target"]), float(rest["wrong"])),
        (shift, float(target.shift), float(wrong.shift)),
        (UNEXPLAINED_WORDS, float(target.unexplained), float(wrong.unexplained)),
        (TOTAL, float(target.similarity), float(wrong.similarity)),
    ]
    for label, a, b in parts:
        if label == shift and not (a or b):
            continue
        rows.append({"concept": -1, "label": label, "target": a, "wrong": b, "difference": a - b})
    return pd.DataFrame(rows)


def pair_attribution(
    target: PairContributions,
    wrong: PairContributions,
    *,
    names: Mapping[int, str],
    top: int = 10,
    captions: tuple[str, str] = ("target", "wrong winner"),
    removed: Collection[int] = (),
    data: str = "",
) -> go.Figure:
    """Bars of pair_table: left the contributions to both similarities, right their difference, each on one scale.

    First the `top` concepts, then, paler, the other concepts, subtracted means and decoder bias, and what the SAE does not
    explain. The sums stand in the legend and above the differences. Green speaks for the target, amber for the wrong
    winner; bars of concepts that are `removed` are hatched. Concept bars carry the concept id.
    """
    table = pair_table(target, wrong, names=names, top=top).iloc[:-1]
    table["label"] = [
        f"{label} (removed)" if concept in removed else label
        for label, concept in zip(table["label"], table["concept"], strict=True)
    ]
    figure = make_subplots(1, 2, shared_yaxes=True, column_widths=[0.58, 0.42], horizontal_spacing=0.03)
    sums = (float(target.similarity), float(wrong.similarity))
    colors = (TARGET, LOST)
    names_of_sums = [f"{name}: sums to {score(total)}" for name, total in zip(captions, sums, strict=True)]
    for column, name, color in zip(("target", "wrong"), names_of_sums, colors, strict=True):
        figure.add_trace(_bars(table, column, name, [color] * len(table), removed), 1, 1)
    signed = [TARGET if value >= 0 else LOST for value in table["difference"]]
    figure.add_trace(_bars(table, "difference", "difference", signed, removed, width=0.55), 1, 2)
    for name, color in zip(names_of_sums, colors, strict=True):  # a legend shows the first bar, which may be hatched
        figure.add_trace(go.Bar(x=[None], y=table["label"][:1], name=name, marker_color=color, showlegend=True), 1, 1)
    for panel, parts in ((1, ["target", "wrong"]), (2, ["difference"])):
        values = table[parts].to_numpy(float)
        low, high = min(0.0, float(values.min(initial=0))), max(0.0, float(values.max(initial=0)))
        room = 0.35 * max(high - low, 1e-9)  # for the numbers at the ends of the bars
        figure.update_xaxes(range=[low - room * (low < 0), high + room], row=1, col=panel)
    figure.update_xaxes(zeroline=True, zerolinecolor=NEUTRAL, nticks=6)
    figure.update_xaxes(title_text="contribution to the cosine similarity", row=1, col=1)
    gap = f"{sums[0] - sums[1]:+.3f}".replace("-", "\N{MINUS SIGN}")
    figure.update_xaxes(title_text=f"{captions[0]} − {captions[1]}, in all {gap}", row=1, col=2)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="")
    figure.update_layout(barmode="group", bargap=0.25, bargroupgap=0.04)
    what = (
        f"Cosine similarity {score(target.similarity)} with the {captions[0]} and {score(wrong.similarity)} with the "
        f"{captions[1]}, split into concepts; all bars of a colour add up to it"
    )
    return finish(figure, caption=sentence(what, data), height=180 + 34 * len(table), legend=True)


def lead_waterfall(
    table: pd.DataFrame,
    *,
    names: Mapping[int, str],
    rest: Mapping[int, str],
    captions: tuple[str, str] = ("new winner", "old winner"),
    removed: Collection[int] = (),
    top: int = 8,
    data: str = "",
) -> go.Figure:
    """The lead of one candidate over another, from before to after: a bar a concept for what it changes, `top` of them, then
    the others together, then what is no concept.

    table: of evaluation.change.Change.table, in its order, with attrs "before" and "after"; rest: what its parts below 0 are
    called. Green moves the lead up, amber down; bars of concepts that are `removed` are hatched and carry their id.
    """
    concepts, parts = table[table["concept"] >= 0], table[table["concept"] < 0]
    shown, others = concepts.iloc[:top], concepts.iloc[top:]
    before, after = float(table.attrs["before"]), float(table.attrs["after"])
    rows = [(-1, "<b>lead before</b>", before)]
    rows += [
        (int(i), concept_label(int(i), names) + (" (removed)" if i in removed else ""), float(change))
        for i, change in zip(shown["concept"], shown["change"], strict=True)
    ]
    if len(others):
        rows.append((-1, f"{OTHERS} ({len(others)})", float(others["change"].sum())))
    rows += [(-1, rest[int(i)], float(change)) for i, change in zip(parts["concept"], parts["change"], strict=True)]
    rows.append((-1, "<b>lead after</b>", after))
    ids, labels, values = (list(column) for column in zip(*rows, strict=True))
    steps = np.asarray(values[1:-1], float)
    start = np.concatenate([[0.0], before + np.concatenate([[0.0], np.cumsum(steps)[:-1]]), [0.0]])[: len(rows)]
    if len(steps) == 0:
        start = np.zeros(len(rows))
    colors = [NEUTRAL, *(TARGET if step >= 0 else LOST for step in steps), NEUTRAL]
    bar = go.Bar(
        x=values, y=labels, base=start, orientation="h", width=0.6, customdata=ids, showlegend=False, cliponaxis=False,
        marker={
            "color": [c if i >= 0 else rgba(c, _PALE) for c, i in zip(colors, ids, strict=True)], "line_width": 0,
            "pattern": {"shape": [HATCH if i in removed else "" for i in ids], "size": 6, "solidity": 0.45},
        },
        hovertemplate="%{y}<br>%{x:+.3r}<extra></extra>",
    )  # fmt: skip
    ends = start + np.asarray(values, float)
    low, high = min(0.0, float(min(start.min(), ends.min()))), max(0.0, float(max(start.max(), ends.max())))
    room = 0.16 * max(high - low, 1e-9)
    figure = go.Figure(bar)
    figure.update_layout(
        annotations=[
            {
                "x": max(a, b), "y": label, "text": f"{value:+.3f}".replace("-", "\N{MINUS SIGN}"), "xanchor": "left",
                "xshift": 4, "showarrow": False, "font": {"size": TICK_SIZE - 1},
            }
            for a, b, label, value in zip(start, ends, labels, values, strict=True)
        ]
    )  # fmt: skip
    figure.update_xaxes(range=[low - 0.3 * room, high + room], zeroline=True, zerolinecolor=NEUTRAL, nticks=6)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="")
    what = (
        f"Lead of the {captions[0]} over the {captions[1]}, cosine similarities: {signed(before)} before, {signed(after)} "
        "after, and what each part of both similarities changes"
    )
    x = f"lead of the {captions[0]} over the {captions[1]}"
    return finish(figure, caption=sentence(what, data), x=x, height=110 + 30 * len(rows), legend=False)


def _bars(
    block: pd.DataFrame,
    column: str,
    name: str,
    color: list[str],
    removed: Collection[int],
    *,
    width: float | None = None,
) -> go.Bar:
    values = block[column].to_numpy(float)
    hatch = [HATCH if concept in removed else "" for concept in block["concept"]]
    return go.Bar(
        x=values,
        y=block["label"],
        orientation="h",
        name=name,
        showlegend=False,
        width=width,
        customdata=block["concept"].to_numpy(),
        marker={
            "color": [
                one if concept >= 0 else rgba(one, _PALE) for one, concept in zip(color, block["concept"], strict=True)
            ],
            "line_width": 0,
            "pattern": {"shape": hatch, "size": 6, "solidity": 0.45},
        },
        text=[f" {value:.3f} ".replace("-", "\N{MINUS SIGN}") if value else "" for value in values],
        textposition="outside",
        constraintext="none",
        textfont_size=TICK_SIZE - 1,
        cliponaxis=False,
        hovertemplate="%{y}<br>%{x:+.3r}<extra>" + plain(name, 40) + "</extra>",
    )


def _by_concept(pair: PairContributions) -> pd.Series:
    return pd.Series(np.asarray(pair.contribution, float), index=np.asarray(pair.concept_ids).astype(int))
