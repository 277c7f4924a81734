"""Colours with one meaning each, and the line styles of backbones and methods. No plotly here, only facts.

Every colour stands on the light and on the dark ground (contrast at least 3:1 with both), so a figure need not know which
theme shows it. Image, text, shared and target stay apart for readers with protanopia and deuteranopia, and by their lightness
in grey (tests/figures/test_palette.py simulates them). Text and lost do not, both turn ochre: what is lost also carries a sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

IMAGE = "#2069a0"
TEXT = "#ec6414"
SHARED = "#8a50ee"  # both modalities: bridges, image_text samples
TARGET = "#379065"
LOST = "#b58900"
REMOVED = "#8a9099"  # masked tokens, removed concepts, random and untrained controls: always hatched
ACCENT = "#0b7f7b"  # a concept's activation, removal, and the one accent of the interface
CONTRASTIVE = "#7d8a9c"  # also the base of a comparison
MLLM = "#b8458f"
WHITENED = "#9a6b3f"  # ReAlign
CENTRED = "#6f7d2c"  # centring
FLATTENED = "#7a6a8f"  # principal components taken away
CHAINED = "#94505c"  # several steps one after the other: never the colour of one of them
NEUTRAL = "#8a9099"  # reference lines

MODALITY = {"image": IMAGE, "text": TEXT, "image_text": SHARED}
MODALITY_SCALE = ((0.0, IMAGE), (0.5, SHARED), (1.0, TEXT))  # modality score: 0 = image, 1 = text
# Any other score: quiet grey to loud gold; never darker or paler than both grounds bear.
SEQUENTIAL_SCALE = ((0.0, "#9aa4b0"), (0.45, ACCENT), (1.0, "#dba200"))
SIGN = {"rescued": "▲", "lost": "▼", "unchanged": "=", "target": "✓"}
HATCH = "/"

# What Streamlit's front end replaces by the ink of the theme in view (streamlit.elements.lib.streamlit_plotly_theme, GRAY_90).
# Its own choice for axes, a mid grey, is too pale for a projector. `style.themed` replaces it outside the app.
ADAPTIVE_INK = "#000037"

GROUND = {"light": "#fbfbf9", "dark": "#14181f"}
INK = {"light": "#0f151c", "dark": "#e6e9ec"}
GRID = {"light": "#e4e7e2", "dark": "#2b323c"}


@dataclass(frozen=True)
class Style:
    """How a series is drawn: colour for its kind, dash, marker and hatch so that colour is never alone."""

    color: str = NEUTRAL
    dash: str = "solid"
    symbol: str = "circle"
    width: float = 2.5
    hatch: str = ""


# Backbones: (part of the name, style). Contrastive solid, MLLM dashed; hue and marker tell the members apart: two greys do not,
# as both grounds leave too little room for lightness.
_BACKBONES = (
    ("siglip", Style("#857433", "solid", "square")),
    ("clip", Style(CONTRASTIVE, "solid", "circle")),
    ("qwen2", Style(MLLM, "dash", "diamond")),
    ("qwen3", Style("#cf5f86", "dot", "triangle-up")),
    ("paligemma", Style("#96529f", "dashdot", "triangle-down")),
    ("chameleon", Style("#b0566a", "longdash", "star")),
)

# Methods: words in the method's name -> style; the first row that fits wins.
_METHODS = (
    (("alone",), Style(CONTRASTIVE, "longdash", "circle-open")),  # the other model of a hybrid
    (("random",), Style(REMOVED, "dot", "x", 2, HATCH)),
    (("untrained",), Style(REMOVED, "dashdot", "x-open", 2, "\\")),
    (("realign", "whiten"), Style(WHITENED, "solid", "diamond")),
    (("w/o image", "no_image"), Style(IMAGE, "dash", "circle-open", hatch=HATCH)),
    (("w/o instruction", "no_instruction"), Style(TEXT, "dashdot", "square-open", hatch=".")),
    (("w/o prompt", "no_prompt"), Style(TEXT, "dash", "square-open", hatch=HATCH)),
    (("principal", "pca"), Style(FLATTENED, "dot", "triangle-down", hatch="x")),
    (("centr", "center", "centering"), Style(CENTRED, "dash", "triangle-up", hatch=".")),
    (("energy",), Style(ACCENT, "dot", "square", hatch=".")),
    (("bridge",), Style(SHARED, "dash", "diamond")),
    (("modality",), Style(SHARED, "dot", "star")),
    (("hand", "picked", "edit", "scaled"), Style(ACCENT, "dashdot", "star", hatch="|")),
    (("chosen",), Style(ACCENT, "dash", "square-open", hatch="-")),
    (("removal", "attribution"), Style(ACCENT, "solid", "square")),
    (("last",), Style(CONTRASTIVE, "dash", "pentagon", hatch="-")),
    (("hybrid", "fusion", "fused", "re-rank", "rerank"), Style(MLLM, "dash", "hexagon")),
    (("concept space", "concept-space"), Style(TARGET, "dot", "cross")),
    (("base",), Style(CONTRASTIVE, "solid", "circle")),
)


def backbone_style(name: str) -> Style:
    """The fixed style of a backbone, by the family that its key, hub id or label names; unknown: as an MLLM."""
    key = name.lower()
    return next((style for family, style in _BACKBONES if family in key), Style(MLLM, "longdashdot", "hexagon"))


def backbone_styles(names: Sequence[str]) -> list[Style]:
    """One style each for backbones drawn together: another one of the same family is thinner, its marker open."""
    styles: list[Style] = []
    for name in names:
        style = backbone_style(name)
        twins = sum(other.color == style.color for other in styles)
        if twins:
            marker = style.symbol + ("-open" if twins % 2 else "-open-dot")
            style = replace(style, width=max(1.0, style.width - 0.75 * twins), symbol=marker)
        styles.append(style)
    return styles


def method_style(name: str) -> Style:
    """The style of a retrieval method by the words in its name: "base", "removal (attribution)", "random" ..."""
    words = name.lower()
    if " + " in words and not any(part in words for part in ("random", "alone")):
        return Style(CHAINED, "longdash", "cross", hatch="+")
    for keys, style in _METHODS:
        if any(key in words for key in keys):
            return style
    return Style(ACCENT, "longdashdot", "hexagon")


def rgba(color: str, alpha: float) -> str:
    """A hex colour with transparency, as CSS."""
    red, green, blue = channels(color)
    return f"rgba({red},{green},{blue},{alpha:.3f})"


def channels(color: str) -> tuple[int, int, int]:
    """`#rrggbb` as three integers 0-255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def modality_colors(scores: np.ndarray) -> list[str]:
    """Colours of modality scores (n,): 0 image blue, 0.5 violet, 1 text red; NaN (never active) grey."""
    scores = np.asarray(scores, float)
    known = np.nan_to_num(np.clip(scores, 0, 1), nan=0.5)
    stops = np.array([stop for stop, _ in MODALITY_SCALE], float)
    table = np.array([channels(color) for _, color in MODALITY_SCALE], float)
    mixed = np.stack([np.interp(known, stops, table[:, c]) for c in range(3)], axis=1).round().astype(int)
    return [
        NEUTRAL if np.isnan(score) else f"#{red:02x}{green:02x}{blue:02x}"
        for score, (red, green, blue) in zip(scores, mixed, strict=True)
    ]
