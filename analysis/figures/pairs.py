"""Why a candidate wins: the contributions of concepts to the similarity with the target and with the wrong winner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.palette import HATCH, LOST, NEUTRAL, TARGET
from analysis.figures.style import TICK_SIZE, concept_label, finish, plain, score, sentence

OTHERS = "all other concepts"
UNEXPLAINED = "not explained by the SAE"
TOTAL = "<b>similarity = sum</b>"


class PairContributions(Protocol):
    """What analysis.retrieval.attribution.explain_pair gives: contributions and `unexplained` add up to `similarity`."""

    @property
    def concept_ids(self) -> np.ndarray: ...
    @property
    def contribution(self) -> np.ndarray: ...
    @property
    def unexplained(self) -> float: ...
    @property
    def similarity(self) -> float: ...


def pair_table(
    target: PairContributions, wrong: PairContributions, *, names: Mapping[int, str], top: int = 10
) -> pd.DataFrame:
    """Contributions side by side: the `top` concepts by |difference|, the others, the unexplained part, the sum.

    Columns: concept (id, -1 for the last three rows), label, target, wrong, difference = target - wrong. In each column
    all rows but the last add up to the last, the cosine similarity.
    """
    merged = pd.DataFrame({"target": _by_concept(target), "wrong": _by_concept(wrong)}).fillna(0.0)
    merged["difference"] = merged["target"] - merged["wrong"]
    order = merged["difference"].abs().sort_values(ascending=False, kind="stable").index
    merged = merged.loc[order]
    shown, rest = merged.iloc[:top], merged.iloc[top:].sum()
    rows = [
        {"concept": int(i), "label": concept_label(int(i), names), **part.to_dict()} for i, part in shown.iterrows()
    ]
    for label, a, b in (
        (f"{OTHERS} ({max(0, len(merged) - top)})", float(rest["target"]), float(rest["wrong"])),
        (UNEXPLAINED, float(target.unexplained), float(wrong.unexplained)),
        (TOTAL, float(target.similarity), float(wrong.similarity)),
    ):
        rows.append({"concept": -1, "label": label, "target": a, "wrong": b, "difference": a - b})
    return pd.DataFrame(rows)


def pair_attribution(
    target: PairContributions,
    wrong: PairContributions,
    *,
    names: Mapping[int, str],
    top: int = 10,
    captions: tuple[str, str] = ("target", "wrong winner"),
    data: str = "",
) -> go.Figure:
    """Bars of pair_table: left the contributions to both similarities, right their difference.

    Above the `top` concepts, below, on a scale of its own and hatched, the other concepts, the part that the SAE does not
    explain, and the sum. Green speaks for the target, amber for the wrong winner. Concept bars carry the concept id.
    """
    table = pair_table(target, wrong, names=names, top=top)
    blocks = [table[table["concept"] >= 0], table[table["concept"] < 0]]
    heights = [max(1, len(block)) for block in blocks]
    figure = make_subplots(
        2, 2, shared_yaxes=True, column_widths=[0.62, 0.38], row_heights=heights, horizontal_spacing=0.03,
        vertical_spacing=2.1 / (sum(heights) + 3),
    )  # fmt: skip
    for row, block in enumerate(blocks, start=1):
        hatch = HATCH if row == 2 else ""
        for column, name, color in (("target", captions[0], TARGET), ("wrong", captions[1], LOST)):
            figure.add_trace(_bars(block, column, name, color, hatch, showlegend=row == 1), row, 1)
        signed = [TARGET if value >= 0 else LOST for value in block["difference"]]
        figure.add_trace(_bars(block, "difference", "difference", signed, hatch, showlegend=False, width=0.55), row, 2)
        for panel, parts in ((1, ["target", "wrong"]), (2, ["difference"])):
            values = block[parts].to_numpy(float)
            low, high = min(0.0, float(values.min(initial=0))), max(0.0, float(values.max(initial=0)))
            room = 0.35 * max(high - low, 1e-9)  # for the numbers at the ends of the bars
            figure.update_xaxes(range=[low - room * (low < 0), high + room], row=row, col=panel)
    figure.update_xaxes(zeroline=True, zerolinecolor=NEUTRAL, nticks=6)
    figure.update_xaxes(title_text="contribution to the cosine similarity", row=1, col=1)
    figure.update_xaxes(title_text="target − wrong winner", row=1, col=2)
    figure.update_xaxes(title_text="the same for the rest and the sum (own scale)", row=2, col=1)
    figure.update_xaxes(title_text="target − wrong winner (own scale)", row=2, col=2)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="")
    figure.update_layout(barmode="group", bargap=0.25, bargroupgap=0.04)
    what = (
        f"Cosine similarity {score(target.similarity)} with the {captions[0]} and {score(wrong.similarity)} with the "
        f"{captions[1]}, split into concepts; all bars of a colour but the last add up to the last"
    )
    return finish(figure, caption=sentence(what, data), height=180 + 34 * sum(heights), legend=True)


def _bars(
    block: pd.DataFrame,
    column: str,
    name: str,
    color: str | list[str],
    hatch: str,
    *,
    showlegend: bool,
    width: float | None = None,
) -> go.Bar:
    values = block[column].to_numpy(float)
    return go.Bar(
        x=values,
        y=block["label"],
        orientation="h",
        name=name,
        legendgroup=name,
        showlegend=showlegend,
        width=width,
        customdata=block["concept"].to_numpy(),
        marker={"color": color, "line_width": 0, "pattern": {"shape": hatch, "size": 6, "solidity": 0.45}},
        text=[f" {value:.3f} ".replace("-", "\N{MINUS SIGN}") if value else "" for value in values],
        textposition="outside",
        constraintext="none",
        textfont_size=TICK_SIZE - 1,
        cliponaxis=False,
        hovertemplate="%{y}<br>%{x:+.3r}<extra>" + plain(name, 40) + "</extra>",
    )


def _by_concept(pair: PairContributions) -> pd.Series:
    return pd.Series(np.asarray(pair.contribution, float), index=np.asarray(pair.concept_ids).astype(int))
