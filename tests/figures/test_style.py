"""Numbers as text, captions, the adaptive ink, and what the theme file promises."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import plotly.graph_objects as go
import pytest

from analysis.figures import palette, style
from tests.figures.test_palette import contrast

ROOT = Path(__file__).parents[2]


def theme() -> dict:
    return tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.01, "0.0100"),
        (1.0, "1.00"),
        (0.5674, "0.567"),
        (12345.6, "12,346"),
        (123.4, "123"),
        (0.0, "0.00"),
        (-0.25, "-0.250"),
    ],
)
def test_scores_have_three_significant_digits(value, text):
    assert style.score(value) == text


def test_tiny_scores_keep_their_magnitude():
    assert style.score(0.0000123) == "1.23e-05"


def test_percent_has_one_decimal_and_missing_is_a_dash():
    assert style.percent(0.0718) == "7.2 %"
    assert style.points(-0.0423) == "−4.2"
    assert style.points(0.0423) == "+4.2"
    assert style.interval(0.024, 0.036) == "[2.4, 3.6]"
    assert style.interval(math.nan, 0.1) == ""
    assert style.percent(math.nan) == style.score(math.nan) == "–"


def test_the_data_line_says_dataset_size_and_model():
    line = style.data_line(
        "COCO", split="val2017", images=5000, captions=25000, backbone="qwen2-vl-7b", tap="last layer"
    )
    assert line == "COCO val2017, 5,000 images, 25,000 captions, qwen2-vl-7b @ last layer"
    assert style.data_line("EmojiScenes") == "EmojiScenes"


def test_captions_cannot_smuggle_markup_into_a_chart():
    assert style.plain("a <b>dog</b>\n& cat") == "a &lt;b&gt;dog&lt;/b&gt; &amp; cat"
    assert style.plain("word " * 100, 20).endswith("…")
    assert len(style.plain("word " * 100, 20)) <= 20


def test_figures_take_webgl_above_a_thousand_points():
    assert style.scatter_kind(1000) is go.Scatter
    assert style.scatter_kind(1001) is go.Scattergl


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_a_themed_copy_has_no_adaptive_ink_left_and_leaves_the_original(mode):
    figure = style.finish(go.Figure(go.Scatter(x=[1, 2], y=[3, 4], name="a")), caption="A.", x="x", y="y")
    copy = style.themed(figure, mode)
    assert palette.ADAPTIVE_INK not in copy.to_json()
    assert copy.layout.paper_bgcolor == palette.GROUND[mode]
    assert palette.ADAPTIVE_INK in figure.to_json()
    assert figure.layout.paper_bgcolor is None


def test_streamlit_still_replaces_the_adaptive_ink():
    module = pytest.importorskip("streamlit.elements.lib.streamlit_plotly_theme")
    assert module.GRAY_90 == palette.ADAPTIVE_INK


def test_a_click_does_not_fade_the_other_points():
    figure = style.finish(go.Figure(go.Bar(x=[1], y=[2])), caption="A.")
    assert figure.data[0].unselected.marker.opacity == 1


def test_theme_and_palette_agree():
    settings = theme()["theme"]
    for mode in ("light", "dark"):
        part = settings[mode]
        assert part["backgroundColor"] == palette.GROUND[mode]
        assert part["textColor"] == palette.INK[mode]
        named = {"blue": palette.IMAGE, "red": palette.TEXT, "violet": palette.SHARED, "green": palette.TARGET}
        named |= {"orange": palette.LOST, "gray": palette.REMOVED}
        assert {name: part[f"{name}Color"] for name in named} == named
        assert len(part["chartSequentialColors"]) == 10
    assert settings["chartCategoricalColors"][4] == palette.ACCENT
    assert settings["chartCategoricalColors"][:4] == [palette.IMAGE, palette.TEXT, palette.SHARED, palette.TARGET]
    ends = palette.modality_colors([i / 9 for i in range(10)])
    assert settings["chartDivergingColors"] == ends


def over(color: str, ground: str, share: float) -> str:
    """A colour that covers a share of what lies below it."""
    parts = [[int(hex_[at : at + 2], 16) for at in (1, 3, 5)] for hex_ in (color, ground)]
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in zip(*parts, strict=True))


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_everything_that_streamlit_writes_can_be_read(mode: str):
    """A selection in the accent on a tenth of it, captions and the code in them in six tenths of the ink; all of it on the
    page's ground and on the rail's."""
    part = theme()["theme"][mode]
    accent = part["primaryColor"]
    for ground in (palette.GROUND[mode], part["sidebar"]["backgroundColor"]):
        assert contrast(accent, over(accent, ground, 0.1)) >= 4.5
        assert contrast(over(part["textColor"], ground, 0.6), ground) >= 4.5
        behind = over(part["codeBackgroundColor"], ground, 0.6)
        assert contrast(over(part["codeTextColor"], ground, 0.6), behind) >= 4.5
        for name in ("blue", "red", "violet", "green", "orange", "gray"):
            assert contrast(part[f"{name}TextColor"], ground) >= 4.5
    assert contrast(accent, "#ffffff") >= 3  # the tick of a box, which is no text


def test_nothing_is_written_in_colours_that_are_not_ours():
    """Streamlit writes tags and primary buttons in white on the accent, where no colour reads that also reads as a selection in
    the dark; its colours of code have 2.4:1 on our ground; and a caption fades the colour of its words below 3:1."""
    sources = {path: path.read_text(encoding="utf-8") for path in [ROOT / "app.py", *(ROOT / "pages").rglob("*.py")]}
    assert sources
    faint = re.compile(
        r"""st\.multiselect\(|type=.primary|language=["']|st\.caption\(.*:(\{color\}|blue|red|violet|green|orange)\["""
    )
    assert [path.name for path, text in sources.items() if faint.search(text)] == []


def test_every_option_of_the_theme_file_exists_in_this_streamlit():
    config = pytest.importorskip("streamlit.config")
    known = set(config.get_config_options())

    def keys(table: dict, prefix: str) -> list[str]:
        found = []
        for name, value in table.items():
            path = f"{prefix}.{name}" if prefix else name
            found += keys(value, path) if isinstance(value, dict) else [path]
        return found

    assert [key for key in keys(theme(), "") if key not in known] == []


def test_fonts_are_shipped_with_their_licence():
    faces = theme()["theme"]["fontFaces"]
    for face in faces:
        assert (ROOT / face["url"].removeprefix("app/")).is_file(), face["url"]
    assert "SIL Open Font License" in (ROOT / "static/fonts/LICENSE.txt").read_text(encoding="utf-8")
    assert theme()["server"]["enableStaticServing"] is True


def test_figures_need_neither_torch_nor_streamlit():
    code = (
        "import sys, analysis.figures, analysis.report.published;"
        "print([m for m in ('torch', 'transformers', 'streamlit', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_what_a_figure_sets_wins_over_the_house_and_nothing_else_is_lost():
    figure = go.Figure(go.Bar(x=[1], y=[2], name="a"))
    figure.update_xaxes(range=[0, 5], title_text="old")
    own = {"margin": {"l": 0}, "yaxis": {"range": [3, 4]}, "barmode": "overlay"}
    done = style.finish(figure, caption="A.", x="new (unit)", height=200, layout=own)
    assert (done.layout.margin.l, done.layout.margin.r) == (0, 16)
    assert list(done.layout.xaxis.range) == [0, 5]
    assert done.layout.xaxis.title.text == "new (unit)"
    assert done.layout.xaxis.title.font.size == style.TEXT_SIZE
    assert list(done.layout.yaxis.range) == [3, 4]
    assert done.layout.yaxis.automargin is True
    assert done.layout.barmode == "overlay"
    assert style.caption_of(done) == "A."
    assert own == {"margin": {"l": 0}, "yaxis": {"range": [3, 4]}, "barmode": "overlay"}


def test_every_panel_of_a_figure_gets_the_sizes():
    from plotly.subplots import make_subplots

    done = style.finish(make_subplots(1, 3), caption="A.")
    assert [axis.tickfont.size for axis in done.select_xaxes()] == [style.TICK_SIZE] * 3
    assert [axis.tickfont.size for axis in done.select_yaxes()] == [style.TICK_SIZE] * 3
