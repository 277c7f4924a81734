"""The tokens an MLLM reads: one strip of all of them, and the picture under its patch grid.

Cells are bars, because bars tile exactly at every size, can be hatched, and can be clicked in Streamlit (heatmap cells
cannot). Each cell carries the token's position in the sequence as customdata.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from analysis.figures.palette import ACCENT, HATCH, IMAGE, NEUTRAL, REMOVED, TEXT, rgba
from analysis.figures.style import MONO, TICK_SIZE, finish, plain, score, sentence

if TYPE_CHECKING:
    from PIL import Image

ROLES = ("pad", "template", "image", "text", "instruction")  # by the number of analysis.models.pooling.Role
_ROLE_COLOR = {"template": NEUTRAL, "image": IMAGE, "text": TEXT, "instruction": TEXT, "pad": NEUTRAL}
_ROLE_ALPHA = {"template": 0.18, "image": 0.55, "text": 0.55, "instruction": 0.25, "pad": 0.08}
_LABELLED = 400  # tokens that get their text drawn; the rest shows it on hover
_CELLS = 1600  # cells drawn at all
_VEIL = 0.35  # the strongest patch keeps two thirds of its picture; how strong it is shows in its frame as well
_LONGEST = 24  # characters of a token in its cell


def token_strip(
    tokens: Sequence[str],
    roles: Sequence[int] | np.ndarray,
    *,
    masked: np.ndarray | None = None,
    activation: np.ndarray | None = None,
    aside: np.ndarray | None = None,
    concept: str = "",
    line: int = 96,
    data: str = "",
) -> go.Figure:
    """All L tokens of one input in reading order, wrapped like text; image tokens are narrow cells without words.

    roles (L,) numbers of ROLES; PAD is not drawn. masked (L,) bool: left out of pooling, drawn grey and hatched.
    activation (L,) of one concept: if given, cells are shaded by it (accent colour, 0 to its maximum) instead of by role.
    aside (L,) bool: tokens that do not count (template, first): dotted, without shade, and not part of that maximum.
    line: characters in a row, about an eighth of the width in pixels. customdata: token position.
    """
    hidden = np.zeros(len(tokens), bool) if masked is None else np.asarray(masked, bool)
    beside = np.zeros(len(tokens), bool) if aside is None else np.asarray(aside, bool)
    scale = None if activation is None else np.where(beside, 0, np.asarray(activation, float))
    role_of = [ROLES[int(role)] for role in roles]
    kept = [i for i, role in enumerate(role_of) if role != "pad"][:_CELLS]
    words = [_word(tokens[i], role_of[i]) for i in kept]
    widths = np.array([1.4 if role_of[i] == "image" else len(word) + 1.4 for i, word in zip(kept, words, strict=True)])
    row, left = _flow(widths, line)
    groups: dict[str, list[int]] = {}
    for cell, i in enumerate(kept):
        shown = "aside" if beside[i] else "activation" if activation is not None else role_of[i]
        group = "masked" if hidden[i] else shown
        groups.setdefault(group, []).append(cell)
    traces = []
    for name in (*ROLES, "activation", "aside", "masked"):
        cells = np.array(groups.get(name, []), int)
        if not cells.size:
            continue
        at = np.array([kept[c] for c in cells])
        values = None if activation is None else np.asarray(activation, float)[at]
        traces.append(
            go.Bar(
                x=left[cells] + widths[cells] / 2,
                y=np.full(cells.size, 0.82),
                base=row[cells].astype(float),
                width=widths[cells] * np.where(widths[cells] < 1.5, 0.86, 0.97),
                customdata=at,
                name=name if name != "activation" else concept or "activation",
                marker=_cell_look(name, values, scale),
                hovertext=[_hover(tokens[i], role_of[i], i, hidden[i], activation) for i in at],
                hovertemplate="%{hovertext}<extra></extra>",
            )
        )
    labels = [
        {
            "x": left[cell] + widths[cell] / 2,
            "y": row[cell] + 0.41,
            "text": plain(word),
            "showarrow": False,
            "font": {"size": TICK_SIZE, "family": MONO},
            "opacity": 0.55 if hidden[kept[cell]] else 1,
        }
        for cell, word in enumerate(words[:_LABELLED])
        if word
    ]
    n_rows = int(row.max(initial=0)) + 1
    layout = {
        "barmode": "overlay", "bargap": 0, "annotations": labels,
        "xaxis": {"range": [0, line], "visible": False, "fixedrange": True},
        "yaxis": {"range": [n_rows, -0.1], "visible": False, "fixedrange": True},
    }  # fmt: skip
    out = len(tokens) - role_of.count("pad")
    what = f"{out} tokens" + (f", {int(hidden.sum())} masked" if hidden.any() else "")
    what += f", shaded by {concept}" if activation is not None and concept else ", coloured by role"
    what += f"; {int(beside.sum())} dotted ones (template, instruction, first) do not count" if beside.any() else ""
    what += f"; the first {_CELLS} are drawn" if out > _CELLS else ""
    by_role = activation is None or bool(hidden.any())
    caption = sentence(what, data)
    return finish(go.Figure(traces), caption=caption, height=60 + 30 * n_rows, legend=by_role, layout=layout)


def patch_grid(
    picture: Image.Image,
    grid: tuple[int, int],
    *,
    token_ids: Sequence[int] | None = None,
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
    masked: np.ndarray | None = None,
    activation: np.ndarray | None = None,
    concept: str = "",
    width: int = 420,
    data: str = "",
) -> go.Figure:
    """A picture under its grid of image tokens; a click on a patch gives the token's position.

    grid: rows, columns; token_ids (rows*columns,) positions in the sequence, row by row (default 0, 1, ...). masked: grey
    and hatched. activation (rows*columns,): frames and tints the patches where the concept fires; the picture stays
    visible below. box: the part of the picture that
    the grid covers (left, top, right, bottom; shares of its size), all of it where the model's processor stretches it.
    """
    rows, columns = grid
    n = rows * columns
    at = np.arange(n) if token_ids is None else np.asarray(token_ids)
    hidden = np.zeros(n, bool) if masked is None else np.asarray(masked, bool)
    r, c = np.divmod(np.arange(n), columns)
    traces = []
    for name, part in (("patches", ~hidden), ("masked", hidden)):
        cells = np.flatnonzero(part)
        if not cells.size:
            continue
        values = None if activation is None else np.asarray(activation, float)
        traces.append(
            go.Bar(
                x=c[cells] + 0.5,
                y=np.ones(cells.size),
                base=r[cells].astype(float),
                width=1,
                customdata=at[cells],
                name=name if name == "masked" or not concept else concept,
                marker=_patch_look(name, None if values is None else values[cells], values),
                hovertext=[
                    f"patch row {r[i] + 1}, column {c[i] + 1}, token {at[i]}"
                    + ("" if values is None else f"<br>{plain(concept, 40)} {score(float(values[i]))}")
                    + ("<br>masked" if hidden[i] else "")
                    for i in cells
                ],
                hovertemplate="%{hovertext}<extra></extra>",
                showlegend=False,
            )
        )
    still = {"visible": False, "fixedrange": True, "constrain": "domain"}
    left, top, right, bottom = box
    wide, high = columns / (right - left), rows / (bottom - top)  # the whole picture, in patches
    square = (picture.height / high) / (picture.width / wide)
    layout = {
        "barmode": "overlay", "bargap": 0, "margin": {"l": 0, "r": 0, "t": 4, "b": 4},
        "images": [
            {
                "source": _data_uri(picture), "x": -left * wide, "y": -top * high, "sizex": wide, "sizey": high,
                "xref": "x", "yref": "y",
                "sizing": "stretch", "layer": "below",
            }
        ],
        "xaxis": {"range": [-left * wide, (1 - left) * wide], **still},
        "yaxis": {"range": [(1 - top) * high, -top * high], "scaleanchor": "x", "scaleratio": square, **still},
    }  # fmt: skip
    height = min(640, max(160, int(width * picture.height / max(1, picture.width))))
    what = f"{rows} × {columns} image tokens" + (f", {int(hidden.sum())} masked" if hidden.any() else "")
    what += f", shaded by {concept}" if activation is not None and concept else ""
    return finish(go.Figure(traces), caption=sentence(what, data), height=height, legend=False, layout=layout)


def _word(token: str, role: str) -> str:
    """What is written in a cell: subword marks become spaces, a line break its sign; image tokens stay empty."""
    if role == "image":
        return ""
    clean = token.replace("Ġ", " ").replace("▁", " ").replace("</w>", " ").replace("Ċ", "⏎").replace("\n", "⏎")
    clean = " ".join(clean.split()) or "␣"
    return clean if len(clean) <= _LONGEST else clean[: _LONGEST - 1] + "…"


def _flow(widths: np.ndarray, room: float) -> tuple[np.ndarray, np.ndarray]:
    """Row and left edge of cells set one after the other, a new row where the line is full."""
    row, left = np.zeros(widths.size, int), np.zeros(widths.size)
    line, x = 0, 0.0
    for i, width in enumerate(widths):
        if x and x + width > room:
            line, x = line + 1, 0.0
        row[i], left[i] = line, x
        x += width
    return row, left


def _cell_look(name: str, values: np.ndarray | None, everything: np.ndarray | None) -> dict[str, object]:
    if name == "masked":
        return _hatched()
    if name == "activation":
        return {"color": _shades(values, everything, 0.06, 0.9), "line": {"color": rgba(ACCENT, 0.5), "width": 0.5}}
    if name == "aside":
        dots = {"shape": ".", "size": 5, "solidity": 0.1, "fgcolor": NEUTRAL, "bgcolor": rgba(NEUTRAL, 0.1)}
        return {"color": rgba(NEUTRAL, 0.1), "pattern": dots, "line": {"color": rgba(NEUTRAL, 0.6), "width": 0.5}}
    color = _ROLE_COLOR[name]
    return {"color": rgba(color, _ROLE_ALPHA[name]), "line": {"color": color, "width": 1}}


def _patch_look(name: str, values: np.ndarray | None, everything: np.ndarray | None) -> dict[str, object]:
    if name == "masked":
        return _hatched()
    if values is None:
        return {"color": rgba(IMAGE, 0.02), "line": {"color": "rgba(255,255,255,0.55)", "width": 1}}
    frame = {"color": _shades(values, everything, 0.25, 1.0), "width": (1 + 3 * _share(values, everything)).tolist()}
    return {"color": _shades(values, everything, 0.0, _VEIL), "line": frame}


def _hatched() -> dict[str, object]:
    pattern = {"shape": HATCH, "size": 6, "solidity": 0.3, "fgcolor": REMOVED, "bgcolor": rgba(REMOVED, 0.45)}
    return {"color": rgba(REMOVED, 0.45), "pattern": pattern, "line": {"color": REMOVED, "width": 1}}


def _shades(values: np.ndarray | None, everything: np.ndarray | None, low: float, high: float) -> list[str]:
    return [rgba(ACCENT, low + (high - low) * float(part)) for part in _share(values, everything)]


def _share(values: np.ndarray | None, everything: np.ndarray | None) -> np.ndarray:
    """Values as shares of the largest of all."""
    top = max(float(np.nanmax(everything, initial=0)), 1e-30) if everything is not None else 1.0
    return np.clip(np.nan_to_num(values if values is not None else np.zeros(0)) / top, 0, 1)


def _hover(token: str, role: str, position: int, masked: bool, activation: np.ndarray | None) -> str:
    value = "" if activation is None else f"<br>activation {score(float(np.asarray(activation)[position]))}"
    state = ", masked" if masked else ""
    return f"<b>{plain(_word(token, '') or token, 60)}</b><br>token {position}, {role}{state}{value}"


def _data_uri(picture: Image.Image, side: int = 512) -> str:
    small = picture.convert("RGB")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
