"""Decks: nothing a finding says can break out of its place, figures have their sizes on hidden slides, and the same findings
give the same bytes."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from click.testing import CliRunner
from PIL import Image
from pptx import Presentation

from analysis.cli import main
from analysis.report import browser
from analysis.report.deck import FORMATS, deck_bytes, write_deck
from analysis.report.deck_html import MAX_BYTES, deck_html, vendored
from analysis.report.one_file import report_html
from analysis.report.slides import Deck, ReportError, deck_of, figure_json
from analysis.store import notebook
from analysis.store.finding import Entry, Figure, Finding, Gallery, Lists, RankedList, Table, figure_part

PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
NASTY = (
    "</script><script>window.bad=1</script>", "<img src=x onerror=window.bad=1>", "<!--", "{{ 7*7 }}", "]]>", "&lt;b&gt;",
    "$E=mc^2$ **bold** [x](javascript:window.bad=1)", '"><svg onload=window.bad=1>', "</section></div>", "a\x00b\ud800c",
    "wort " * 2000, "x" * 10_000, "=1+1", "`rm`",
)  # fmt: skip
needs_browser = pytest.mark.skipif(
    not any(shutil.which(name) for name in browser.NAMES), reason="no Chromium: install it to draw and print decks"
)


def chart(n: int = 3, kind: str = "bar") -> Figure:
    figure = go.Figure({"data": [{"type": kind, "x": list(range(n)), "y": [1.5] * n}], "layout": {"height": 360}})
    return figure_part(figure)


def nasty(text: str) -> Finding:
    entry = Entry(1, text, 0.5, True, 3, PIXEL)
    figure = go.Figure(go.Bar(x=[1], y=[text], name=text), layout={"title": {"text": text}, "meta": {"caption": text}})
    parts = (
        figure_part(figure), Table((text, "n"), ((text, 1.0),), text), Gallery((PIXEL, text), (text,)),
        Lists((RankedList(text, (entry,)), RankedList("after", (Entry(1, text, picture=text),))), text, PIXEL),
    )  # fmt: skip
    return Finding(
        "retrieval_lab",
        text,
        {"q": [text]},
        note=text,
        author=text,
        command=text,
        sentence=text,
        caption=text,
        parts=parts,
    )


def play(html: str, script: str):  # type: ignore[no-untyped-def]
    return browser._run(browser._evaluated(html, f"window.ready.then(async () => {{ {script} }})"))


@pytest.mark.slow
@needs_browser
def test_no_text_of_a_finding_runs_or_breaks_the_deck_or_a_report() -> None:
    deck = deck_of(NASTY[0], [nasty(text) for text in NASTY], subtitle=NASTY[1])
    plain = deck_of("t", [nasty("plain")])
    expected = 1 + len(NASTY) * len(plain.slides)
    script = """return [window.bad || 0, document.querySelectorAll('.slides > section').length,
      document.querySelectorAll('svg.main-svg').length]"""
    bad, slides, drawn = play(deck_html(deck, notes=True), script)
    assert (bad, slides) == (0, expected)
    assert drawn >= len(NASTY)
    script = """return [window.bad || 0, document.querySelectorAll('section').length,
      document.querySelectorAll('.figure').length]"""
    assert play(report_html(NASTY[0], [nasty(text) for text in NASTY]), script) == [0, len(NASTY), len(NASTY)]


@needs_browser
def test_nasty_texts_give_a_powerpoint_file_that_opens() -> None:
    deck = deck_of(NASTY[0], [nasty(text) for text in NASTY])
    opened = Presentation(io.BytesIO(deck_bytes(deck, "pptx")))
    assert len(opened.slides) == len(deck.slides) + 1
    shown = opened.slides[1]
    assert shown.shapes.title.text_frame.text == deck.slides[0].title
    assert NASTY[0] in shown.notes_slide.notes_text_frame.text


def test_nothing_is_loaded_from_elsewhere_and_the_size_is_bounded() -> None:
    hostile = json.loads(chart().plotly)
    hostile["layout"]["images"] = [{"source": "http://evil/x.png"}, {"source": PIXEL}]
    deck = deck_of("t", [Finding("retrieval_lab", f"{i}", {}, parts=(Figure(json.dumps(hostile)),)) for i in range(12)])
    html = deck_html(deck)
    assert len(html.encode()) < MAX_BYTES
    assert "evil" not in html
    assert not re.findall(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=[\"']?(?!data:)", html.split("<body>")[1])
    assert "default-src 'none'" in html


def test_webgl_becomes_plain_and_bounded() -> None:
    figure = go.Figure(go.Scattergl(x=np.arange(50_000), y=np.arange(50_000), text=["a"] * 50_000, mode="markers"))
    (trace,) = figure_json(figure_part(figure), 600, 300)["data"]
    assert trace["type"] == "scatter"
    assert len(trace["text"]) <= 4000
    assert len(go.Figure([trace]).data[0].x) == len(trace["text"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"data": 3}', '{"data": [{"type": "virus"}]}'])
def test_what_is_no_figure_is_one_sentence(text: str) -> None:
    with pytest.raises(ReportError, match="pin its view again"):
        figure_json(Figure(text), 10, 10)


@needs_browser
def test_figures_of_hidden_slides_have_their_sizes() -> None:
    deck = deck_of("t", [Finding("retrieval_lab", f"slide {i}", {}, parts=(chart(),)) for i in range(4)])
    script = """return [...document.querySelectorAll('.figure')].map(box => { const s = box.querySelector('svg.main-svg');
      return [['width', +s.getAttribute('width')], ['height', +s.getAttribute('height')]]
        .map(([name, size]) => size / parseFloat(box.style[name])) })"""
    assert play(deck_html(deck), script) == [[1, 1]] * 4
    script = """const seen = []; for (let i = 1; i < 5; i++) { Reveal.slide(i); const r = Reveal.getCurrentSlide()
      .querySelector('svg.main-svg').getBoundingClientRect();
      seen.push(Math.round(r.width / Reveal.getScale())) } return seen"""
    assert play(deck_html(deck), script) == [1200] * 4


@needs_browser
def test_a_report_to_read_keeps_all_words_and_its_letters_do_not_overlap() -> None:
    words = "what the score says, in many words, " * 12
    table = Table(("score", "what it says"), ((0.5, words),))
    lists = Lists((RankedList("before", (Entry(1, "A man is riding a brown horse along the sandy beach", 0.5),)),) * 2)
    script = "return [document.body.innerText, document.querySelector('.scaled').style.transform]"
    text, scale = play(report_html("t", [Finding("", "t", {}, parts=(table, lists, chart()))]), script)
    assert " ".join(words.split()) in text
    assert text.count("along the sandy beach") == 2
    assert float(scale.removeprefix("scale(").rstrip(")")) <= 1.15


def photograph(wide: int, high: int) -> str:
    out = io.BytesIO()
    Image.new("RGB", (wide, high), "teal").save(out, "JPEG")
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


@pytest.fixture(scope="module")
def crowded() -> Deck:
    """As much as a finding can bring: long sentences and captions, wide and long tables, lists and pictures of any shape."""
    words = "A man in a red shirt is riding a brown horse along the sandy beach at sunset"
    ranked = RankedList(
        "a method with quite a long name, and then another one",
        tuple(Entry(1 + 4321 * i, words, 0.5, i == 2, -4321 * i, photograph(200, 60 + 70 * i)) for i in range(8)),
    )
    bare = RankedList("after", tuple(Entry(1 + i, words, 0.5, i == 2, 12_345) for i in range(8)))
    photographs = Gallery(tuple(photograph(60 + 90 * i, 200) for i in range(6)), (words,) * 5)
    text = Table(
        ("concept", "name", "what it says", "score"), tuple((i, words[:20], words, 0.123) for i in range(10)), words
    )
    numbers = Table(tuple(f"number {i}" for i in range(9)), ((1234567.8,) * 9,) * 7, "numbers")
    small = Table(("model", "R@1", "R@5", "R@10"), (("qwen2-vl-7b-instruct", 12.3, 45.6, 78.9),) * 6, "recall")
    upload = base64.b64decode(photograph(1024, 300).partition(",")[2])
    contents = (
        (Lists((ranked, ranked), words * 3, photograph(9, 300)),), (Lists((bare,), words),), (text,), (numbers, small, small),
        (photographs, small), (photographs,), (chart(),),
    )  # fmt: skip
    caption = f"{'What is shown. ' * 20} coco val2017, 5,000 images; qwen2-vl-7b @ post_norm. Demo: small models."
    found = [
        Finding("retrieval_lab", "", {}, sentence=sentence, caption=caption, parts=parts, picture=picture)
        for sentence in ("Short", words, words * 3)
        for parts, picture in [*((one, b"") for one in contents), ((chart(),), upload), ((small,), upload)]
    ]
    return deck_of("t", found)


@needs_browser
def test_no_letter_of_a_crowded_slide_is_cut_off_or_small(crowded: Deck) -> None:
    script = """const bad = [];
      for (const slide of document.querySelectorAll('.slides > section')) {
        slide.style.display = 'block'; slide.hidden = false;
        const edge = slide.getBoundingClientRect(), scale = edge.width / 1280;
        const walk = document.createTreeWalker(slide, NodeFilter.SHOW_TEXT);
        while (walk.nextNode()) {
          const node = walk.currentNode, box = node.parentElement;
          if (!node.textContent.trim() || box.closest('script, style, aside')) continue;
          const range = document.createRange(); range.selectNodeContents(node);
          const at = range.getBoundingClientRect(), part = (box.closest('.part') || slide).getBoundingClientRect();
          const scaled = box.closest('.scaled') ? new DOMMatrix(getComputedStyle(box.closest('.scaled')).transform).a : 1;
          const size = scaled * parseFloat(getComputedStyle(box).fontSize);
          const over = [part.left - at.left, at.right - part.right, at.bottom - part.bottom, part.top - at.top];
          const cut = Math.max(...over) / scale;
          if (size < 23.5 || cut > 2) bad.push([node.textContent.slice(0, 40), size, cut]);
        }
        const all = (slide.querySelector('.parts') || slide).getBoundingClientRect(), foot = slide.querySelector('footer');
        if (foot && foot.getBoundingClientRect().top < all.bottom - 1) bad.push('caption over the parts');
        for (const image of slide.querySelectorAll('img')) {
          const at = image.getBoundingClientRect();
          if (at.right > all.right + 1 || at.bottom > all.bottom + 1) bad.push(['picture', at.right, at.bottom]);
        }
        slide.style.display = '';
      }
      return bad"""
    assert play(deck_html(crowded), script) == []
    assert all(slide.caption.endswith("Demo: small models.") for slide in crowded.slides)


@needs_browser
def test_letters_of_powerpoint_have_at_least_18_points_and_nothing_lies_over_another(crowded: Deck) -> None:
    half = replace(crowded, slides=crowded.slides[::2])
    opened = Presentation(io.BytesIO(deck_bytes(half, "pptx")))
    assert len(opened.slides) == len(half.slides) + 1
    seen = 0
    for slide in opened.slides:
        boxes = []
        for shape in slide.shapes:
            frames = [shape.text_frame] if shape.has_text_frame else []
            if shape.has_table:
                frames = [cell.text_frame for row in shape.table.rows for cell in row.cells]
            sizes = [paragraph.font.size.pt for frame in frames for paragraph in frame.paragraphs if paragraph.text]
            assert all(size >= 18 for size in sizes), sizes
            seen += len(sizes)
            right, bottom = shape.left + shape.width, shape.top + shape.height
            assert shape.left >= 0
            assert shape.top >= 0
            assert right <= opened.slide_width
            assert bottom <= opened.slide_height
            boxes.append((shape.left, shape.top, right, bottom, shape.name))
        for i, one in enumerate(boxes):
            for other in boxes[i + 1 :]:
                apart = min(one[2], other[2]) <= max(one[0], other[0]) or min(one[3], other[3]) <= max(one[1], other[1])
                assert apart, (one, other)
    assert seen > 250


@needs_browser
def test_pictures_of_figures_have_the_typeface_of_the_deck() -> None:
    html = deck_html(deck_of("t", [Finding("retrieval_lab", "t", {}, parts=(chart(),))]))
    assert browser.figure_pictures(html, scale=1) != browser.figure_pictures(
        html.replace("@font-face", "@none"), scale=1
    )


@needs_browser
def test_a_pdf_has_a_page_a_slide() -> None:
    deck = deck_of("t", [Finding("retrieval_lab", f"slide {i}", {}, parts=(chart(),)) for i in range(3)])
    data = deck_bytes(deck, "pdf")
    assert data.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", data)) == 4


@needs_browser
def test_powerpoint_has_a_native_table_and_a_picture_that_links_to_the_live_view() -> None:
    found = Finding(
        "retrieval_lab",
        "t",
        {"store": ["a/b"]},
        command="python -m analysis x",
        parts=(chart(), Table(("a",), ((1.5,),))),
    )
    opened = Presentation(io.BytesIO(deck_bytes(deck_of("t", [found], server="http://host:1"), "pptx")))
    figure, table = opened.slides[1], opened.slides[2]
    (picture,) = [shape for shape in figure.shapes if shape.shape_type == 13]
    assert picture.click_action.hyperlink.address == "http://host:1/retrieval_lab?store=a/b"
    assert picture.image.size[0] >= 2000
    assert next(shape for shape in table.shapes if shape.has_table).table.cell(1, 0).text == "1.500"
    assert "python -m analysis x" in figure.notes_slide.notes_text_frame.text


@needs_browser
@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_findings_give_the_same_bytes(kind: str) -> None:
    deck = deck_of("t", [nasty("a")], date="2026-11-29")
    one, other = (re.sub(rb"\(D:[^)]*\)", b"", deck_bytes(deck, kind)) for _ in range(2))  # but for dates of a PDF
    assert one == other


def test_notes_leave_only_when_asked_for() -> None:
    deck = deck_of("t", [Finding("retrieval_lab", "t", {}, note="my secret", command="cmd", author="Ada")])
    assert "my secret" not in deck_html(deck)
    assert "Ada" not in deck_html(deck)
    assert "my secret" in deck_html(deck, notes=True)


def test_long_tables_go_on_on_the_next_slide_and_nothing_is_lost() -> None:
    table = Table(("n", "text"), tuple((i, "x") for i in range(25)))
    deck = deck_of("t", [Finding("retrieval_lab", "t", {}, parts=(table,))])
    assert [row for slide in deck.slides for part in slide.parts for row in part.rows] == list(table.rows)  # type: ignore[union-attr]
    assert deck.slides[1].title == "t (2 of 4)"


def test_without_chromium_pdf_says_what_to_do_and_html_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser.shutil, "which", lambda name: None)
    monkeypatch.setattr(browser, "MAC", tmp_path / "none")
    deck = deck_of("t", [Finding("retrieval_lab", "t", {}, parts=(chart(),))])
    for name in ("a.pdf", "a.pptx"):
        with pytest.raises(ReportError, match=r"no Chromium here.*install"):
            write_deck(deck, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    write_deck(deck, tmp_path / "a.html")
    tables = deck_of("t", [Finding("retrieval_lab", "t", {}, parts=(Table(("a",), ((1,),)),))])
    write_deck(tables, tmp_path / "a.pptx")  # without figures PowerPoint needs none either


def test_the_command_makes_the_deck_of_a_collection(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    for title in ("first", "second"):
        notebook.add_finding(
            notes, Finding("retrieval_lab", title, {}, collection="talk", parts=(Table(("a",), ((1,),)),))
        )
    out = tmp_path / "deck.html"
    call = ["deck", "--cache", str(tmp_path), "--collection"]
    done = CliRunner().invoke(main, [*call, "talk", "--out", str(out)])
    assert done.exit_code == 0, done.output
    text = out.read_text()
    assert text.index("first") < text.index("second")
    for arguments, code, words in (
        ([*call, "empty", "--out", str(out)], 1, "nothing to present"),
        ([*call, "talk", "--out", "deck.odp"], 2, ".pptx"),
        (["deck", "--out", "deck.html"], 2, "--standard"),
        ([*call, "talk", "--out", str(out / "below.html")], 1, "could not be written"),
    ):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == code, done.output
        assert words in done.output
    assert out.read_text() == text


def test_vendored_files_are_those_that_the_readme_names() -> None:
    import hashlib

    from analysis.report.deck_html import VENDOR

    listed = re.findall(r"\| `([^`]+)` \|.*`([0-9a-f]{64})`", (VENDOR / "README.md").read_text())
    assert len(listed) == 4
    for name, digest in listed:
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest
        assert "</script" not in vendored(name)


def test_zip_has_no_clock() -> None:
    data = deck_bytes(deck_of("t", [Finding("retrieval_lab", "t", {}, parts=(Table(("a",), ((1,),)),))]), "pptx")
    assert {item.date_time[0] for item in zipfile.ZipFile(io.BytesIO(data)).infolist()} == {2026}
