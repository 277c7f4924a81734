"""A picture of a figure or table: at slide size, with the words inside, drawn by the machine's own Chromium."""

from __future__ import annotations

import io
import re
import shutil
from xml.etree import ElementTree

import pandas as pd
import pytest
from PIL import Image

from analysis.figures.recall import recall_bars
from analysis.figures.style import caption_of
from analysis.report import browser
from analysis.report.slides import ReportError
from analysis.report.stills import still
from analysis.store.finding import Finding, figure_part, table_part

needs_browser = pytest.mark.skipif(
    not any(shutil.which(name) for name in browser.NAMES), reason="no Chromium: install it to draw pictures"
)
SENTENCE = "ReAlign: Recall@10 goes from 20.0 % to 22.2 % <b>& more</b>."


@pytest.fixture(scope="module")
def finding() -> Finding:
    frame = pd.DataFrame(
        {"method": ["base", "ReAlign"], "k": [10, 10], "recall": [0.2, 0.222], "low": [0.18, 0.2], "high": [0.22, 0.25]}
    )
    chart = recall_bars(frame, data="i2t, 1,000 queries; demo: small models")
    return Finding(
        "retrieval_lab", "Recall", {}, sentence=SENTENCE, caption=caption_of(chart), parts=(figure_part(chart),)
    )  # fmt: skip


@needs_browser
def test_svg_holds_title_figure_data_and_demo_label_as_text(finding: Finding) -> None:
    svg = still(finding, "svg").decode()
    root = ElementTree.fromstring(svg)
    assert (root.get("width"), root.get("height")) == ("1280", "720")
    words = " ".join("".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text"))
    for part in ("goes from 20.0 % to 22.2 % <b>& more</b>", "1,000 queries", "demo: small models", "R@10 (%)", "22.2"):
        assert part in words
    assert "font-face" in svg
    assert not re.search(r"https?://(?!www\.w3\.org)", svg)


@needs_browser
def test_png_and_pdf_have_the_size_of_a_slide(finding: Finding) -> None:
    picture = Image.open(io.BytesIO(still(finding, "png")))
    assert picture.size == (2560, 1440)
    pdf = still(finding, "pdf")
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1  # no cover


@needs_browser
def test_a_table_is_a_picture_and_no_svg() -> None:
    table = Finding(
        "retrieval_lab", "Rows", {}, parts=(table_part(pd.DataFrame({"method": ["base"], "R@10": [20.1]})),)
    )
    assert Image.open(io.BytesIO(still(table, "png"))).size == (2560, 1440)
    with pytest.raises(ReportError, match="no SVG"):
        still(table, "svg")


def test_what_cannot_be_drawn_is_said(finding: Finding, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ReportError, match="expected one of svg, png, pdf"):
        still(finding, "gif")
    with pytest.raises(ReportError, match="no figure, table or list"):
        still(Finding("overview", "Nothing", {}), "png")
    monkeypatch.setattr(browser.shutil, "which", lambda name: None)
    monkeypatch.setattr(browser, "MAC", browser.Path("/nowhere"))
    with pytest.raises(ReportError, match="There is no Chromium"):
        still(finding, "png")
