"""Why an intervention works or not: hubness, spectrum and modality gap before and after, as three small panels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.palette import CONTRASTIVE, NEUTRAL, Style, method_style
from analysis.figures.style import TEXT_SIZE, finish, score, sentence

if TYPE_CHECKING:
    from analysis.retrieval.evaluation.diagnostics import Diagnostics

BEFORE = Style(CONTRASTIVE, "dash", "circle")
_BINS = 24


def diagnostic_panels(states: Mapping[str, Diagnostics], *, data: str = "", height: int = 330) -> go.Figure:
    """Three panels for the states by name, usually two: before (dashed, grey) and after.

    Left: how many candidates stand how often in the top 10 (a long tail: hubs). Middle: share of the variance per
    direction, log-log (a steep fall: few directions decide). Right: modality gap, cosine of matched and of random pairs.
    What a state does not have (a hybrid has no embeddings of its own) is a dash, or no line.
    """
    figure = make_subplots(
        1,
        3,
        horizontal_spacing=0.09,
        subplot_titles=[
            "Hubs: skewness " + " → ".join(score(s.hubness) for s in states.values()),
            "Effective rank " + " → ".join(score(s.effective_rank) for s in states.values()),
            "Modality gap " + " → ".join(score(s.modality_gap) for s in states.values()),
        ],
    )
    top = max((float(np.max(s.occurrences, initial=0)) for s in states.values()), default=0.0)
    edges = _occurrence_edges(top)
    tallest = 1
    for index, (name, state) in enumerate(states.items()):
        style = BEFORE if index == 0 and len(states) > 1 else replace(method_style(name), dash="solid")
        look = {"color": style.color, "dash": style.dash, "width": style.width}
        heights = np.histogram(state.occurrences, edges)[0]
        tallest = max(tallest, int(heights.max(initial=0)))
        figure.add_trace(
            go.Scatter(
                x=_centres(edges),
                y=np.where(heights > 0, heights, 0.1),  # an empty bin lies below the visible range
                mode="lines",
                line={**look, "shape": "hvh"},
                name=name,
                legendgroup=name,
                customdata=heights,
                hovertemplate="in the top 10 of about %{x:.3~g} queries<br>%{customdata:,} candidates<extra></extra>",
            ),
            1,
            1,
        )
        share = np.sort(np.clip(np.asarray(state.spectrum, float), 0, None))[::-1]
        share = 100 * share / max(float(share.sum()), 1e-30)
        alive = share > 1e-6 * share.max(initial=0)
        figure.add_trace(
            go.Scatter(
                x=np.arange(1, share.size + 1)[alive],
                y=share[alive],
                mode="lines",
                line=look,
                name=name,
                legendgroup=name,
                showlegend=False,
                hovertemplate="direction %{x}: %{y:.3r} % of the variance<extra></extra>",
            ),
            1,
            2,
        )
        values = [state.modality_gap, state.matched_cosine, state.random_cosine]
        figure.add_trace(
            go.Bar(
                x=["gap", "cosine,<br>matched", "cosine,<br>random"],
                y=np.nan_to_num(values),
                marker={"color": style.color, "line_width": 0, "pattern_shape": "" if style.dash == "solid" else "/"},
                text=[_short(value) for value in values],  # longer ones run into each other where bars are equal
                textposition="outside",
                constraintext="none",
                cliponaxis=False,
                name=name,
                legendgroup=name,
                showlegend=False,
                hovertemplate="%{x}: %{y:.3r}<extra></extra>",
            ),
            1,
            3,
        )
    figure.update_xaxes(title_text="top-10 lists with the candidate", type="log", dtick=1, row=1, col=1)
    figure.update_yaxes(title_text="candidates (log scale)", type="log", dtick=1, row=1, col=1)
    figure.update_yaxes(range=[np.log10(0.7), np.log10(2 * tallest)], row=1, col=1)
    figure.update_xaxes(title_text="direction (log scale)", type="log", dtick=1, row=1, col=2)
    figure.update_yaxes(title_text="variance (%, log scale)", type="log", dtick=1, exponentformat="power", row=1, col=2)
    figure.update_yaxes(title_text="distance or cosine", zeroline=True, zerolinecolor=NEUTRAL, row=1, col=3)
    what = f"Hubness, spectrum and modality gap of the embeddings: {' and '.join(states)}"
    figure.update_annotations(font_size=TEXT_SIZE)
    return finish(figure, caption=sentence(what, data), height=height).update_layout(margin_t=70, legend_y=1.16)


def _short(value: float) -> str:
    """Two decimals; a dash where there is nothing."""
    return "–" if np.isnan(value) else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def _occurrence_edges(top: float) -> np.ndarray:
    """Bins of the occurrence count: 0 apart, then log-spaced with no bin narrower than one."""
    edges = np.unique(np.geomspace(1, max(top, 1) + 1, _BINS).round())
    return np.concatenate([[0], edges]) if edges.size > 1 else np.array([0.0, 1.0, 2.0])


def _centres(edges: np.ndarray) -> np.ndarray:
    """Geometric centres on the log axis; the bin of 0 stands at 0.5."""
    low, high = edges[:-1], edges[1:]
    return np.where(low == 0, 0.5, np.sqrt(np.maximum(low, 1e-9) * np.maximum(low, high - 1)))
