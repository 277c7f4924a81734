"""How one query's list changed: ranks before and after as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from analysis.figures.palette import LOST, REMOVED, SIGN, TARGET
from analysis.figures.style import finish, plain, sentence


def rank_movement(
    before: Sequence[int],
    after: Sequence[int],
    *,
    targets: Sequence[int],
    labels: Mapping[int, str],
    rank_before: Mapping[int, int] | None = None,
    rank_after: Mapping[int, int] | None = None,
    names: tuple[str, str] = ("before", "after"),
    data: str = "",
) -> go.Figure:
    """How one query's list changed: one line per candidate from its rank before to its rank after.

    before, after: candidate ids, best first. rank_before, rank_after: 1-based ranks of candidates beyond the end of a
    list, where known (the targets' usually). Targets are green, thick and starred; what left the list is amber. Points
    carry the candidate id as customdata. Beyond the end all ranks share one place, with the rank written beside it.
    """
    k = max(len(before), len(after), 1)
    start = dict(rank_before or {}) | {candidate: i for i, candidate in enumerate(before, 1)}
    end = dict(rank_after or {}) | {candidate: i for i, candidate in enumerate(after, 1)}
    known_targets = [t for t in targets if t in start or t in end]
    beyond = k + 1.3
    traces: list[go.Scatter] = []
    notes: list[dict[str, object]] = []
    for candidate in dict.fromkeys([*before, *after, *known_targets]):
        label = plain(labels.get(candidate, str(candidate)), 30)
        ranks = (start.get(candidate), end.get(candidate))
        is_target = candidate in set(targets)
        left_list = candidate in before and candidate not in after
        y = [beyond if rank is None or rank > k else rank for rank in ranks]
        color = TARGET if is_target else LOST if left_list else REMOVED
        traces.append(
            go.Scatter(
                x=[0, 1],
                y=y,
                mode="lines+markers",
                line={"color": color, "width": 4 if is_target else 1.5},
                marker={"size": 13 if is_target else 8, "symbol": "star" if is_target else "circle"},
                customdata=[candidate, candidate],
                name=label,
                hovertemplate=f"{label}<br>rank {ranks[0] or '?'} → {ranks[1] or '?'}<extra></extra>",
                showlegend=False,
            )
        )
        for side, rank in enumerate(ranks):
            if rank is not None and (rank <= k or is_target):
                notes.append(
                    {
                        "x": side,
                        "y": y[side],
                        "text": _rank_label(ranks, side, label, is_target),
                        "xanchor": ("right", "left")[side],
                        "xshift": (-12, 12)[side],
                        "showarrow": False,
                    }
                )
    figure = go.Figure(traces).update_layout(annotations=notes)
    figure.update_xaxes(range=[-1.75, 2.75], tickvals=[0, 1], ticktext=[f"<b>{name}</b>" for name in names], side="top")
    figure.update_xaxes(showline=False, ticks="")
    figure.update_yaxes(range=[beyond + 0.5, 0.5], visible=False)
    what = f"Ranks {names[0]} and {names[1]}; ★ target, amber: left the list; lowest place: any rank beyond {k}"
    return finish(figure, caption=sentence(what, data), height=90 + 30 * (k + 1), legend=False)


def _rank_label(ranks: tuple[int | None, int | None], side: int, label: str, is_target: bool) -> str:
    """Rank, movement and name, the rank next to the line: "3  a dog" on the right, "a dog  3" on the left."""
    before, after = ranks
    name = f"<b>{SIGN['target']} {label}</b>" if is_target else label
    if side == 0:
        return f"{name}  {before}"
    moved = ""
    if before is not None and after is not None and before != after:
        moved = f"{SIGN['rescued']}{before - after}  " if before > after else f"{SIGN['lost']}{after - before}  "
    return f"{after}  {moved}{name}"
