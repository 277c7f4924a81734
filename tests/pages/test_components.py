"""What pages share: addresses, words of the overview, commands, text from the data."""

from __future__ import annotations

import base64
import io
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from analysis.figures.palette import TEXT, channels
from analysis.store import open_store
from pages.components.overview import sentences
from pages.components.shared import caching, commands, concept_cards, gallery, layout, scores, state
from tests.pages.opening import open_page, words
from tests.synthetic_store import IMAGE_ONLY, TEXT_ONLY, make_store


def test_address_carries_what_is_given_and_nothing_else() -> None:
    assert (
        state.page_url("concept", store="clip-mini/x-1", concept=5, task=None)
        == "concept?store=clip-mini/x-1&concept=5"
    )
    assert state.page_url("stores") == "stores"
    assert state.page_url("overview", share=2) == "./?share=2"


@pytest.mark.parametrize("raw", ["a\nb", "x" * 1000, "<b>"])
def test_values_from_the_address_are_shown_short_and_on_one_line(raw: str) -> None:
    found = state.shown(raw)
    assert "\n" not in found
    assert len(found) <= 63


def test_text_from_the_data_is_never_formatting() -> None:
    assert gallery.escape("**a** [b](c) :red[d] $e$ `f`\n# g") == r"\*\*a\*\* \[b\]\(c\) \:red\[d\] \$e\$ \`f\` \# g"
    assert gallery.escape("x" * 400, 10) == "x" * 10 + "…"


def _choose(count: int) -> None:
    import streamlit as st

    from pages.components.shared import pickers

    told = st.session_state.setdefault("told", ["b", "a"])
    options = {"abcdefghijklmnop"[i]: f"**{i}**" for i in range(count)}
    pickers.several("Things", options, told, key="few", most=3, then=lambda ids: st.session_state.update(told=ids))


def test_several_things_keep_the_order_of_their_choice_and_are_no_more_than_fit() -> None:
    app = AppTest.from_function(_choose, args=(5,)).run()
    assert app.pills(key="few").options[0] == r"\*\*0\*\*"
    app.pills(key="few").set_value(["a", "b", "d"]).run()
    assert app.session_state["told"] == ["b", "a", "d"]
    app.pills(key="few").set_value(["a", "b", "c", "d"]).run()
    assert app.session_state["told"] == ["b", "a", "d"]
    assert "3 stand side by side" in app.toast[0].value
    app.pills(key="few").set_value(["d", "a"]).run()
    assert app.session_state["told"] == ["a", "d"]
    assert not app.exception


def test_many_things_to_choose_from_fold_away() -> None:
    few, many = (AppTest.from_function(_choose, args=(count,)).run() for count in (12, 13))
    assert not few.get("popover")
    assert [box.proto.popover.label for box in many.get("popover")] == ["Things: 2 of 13"]


def test_modality_in_words_has_the_colour_of_its_side() -> None:
    assert [scores.modality_words(value) for value in (0.0, 0.5, 1.0, float("nan"))] == [
        ("image only", "blue"),
        ("both modalities", "violet"),
        ("text only", "red"),
        ("never active", "gray"),
    ]


def test_shares_leave_out_dead_concepts() -> None:
    shares = sentences.modality_shares(np.asarray([0.0, 0.6, 0.9, 1.0, np.nan]), np.asarray([1.0, 4.0, 1.0, 2.0, 0.0]))
    assert (shares.live, shares.dead) == (4, 1)
    assert shares.text_share == pytest.approx(2 / 4)
    assert shares.text_energy == pytest.approx(3 / 8), "a concept of both modalities is no text concept"
    assert shares.shared_energy == pytest.approx(4 / 8)
    nothing = sentences.modality_shares(np.asarray([np.nan]), np.asarray([0.0]))
    assert np.isnan(nothing.text_share)


def test_removal_sentence_says_when_nothing_is_shown() -> None:
    def table(low: float, after: float) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "method": ["base", "removal", "random control", "untrained SAE"],
                "k": [10, 10, 10, 10],
                "recall": [0.5, after, 0.4, 0.45],
                "difference": [0, after - 0.5, -0.1, -0.05],
                "difference_low": [0, low, -0.2, -0.1],
                "difference_high": [0, after - 0.4, 0, 0],
            }
        )

    unsure = sentences.removal_sentence(["m"], [table(-0.1, 0.52)], 10)
    assert "includes no change" in unsure
    assert "at random gives 40.0 %, as many of an untrained SAE 45.0 %" in unsure
    assert "includes no change" not in sentences.removal_sentence(["m"], [table(0.1, 0.7)], 10)
    assert "**lowers**" in sentences.removal_sentence(["m"], [table(-0.4, 0.2)], 10)


def test_command_on_screen_gives_the_number_on_screen(tmp_path: Path) -> None:
    store = open_store(make_store(tmp_path / "a folder"))
    command = commands.concept_row(store, 2)
    done = subprocess.run([sys.executable, *shlex.split(command)[1:]], capture_output=True, text=True, check=True)
    energy = next(line.split()[-1] for line in done.stdout.splitlines() if line.startswith("energy "))
    assert float(energy) == pytest.approx(store.concepts["energy"][2], rel=1e-5)


def test_error_outside_every_guard_is_a_sentence_too(caplog: pytest.LogCaptureFixture) -> None:
    from streamlit.testing.v1 import AppTest

    def script() -> None:
        from analysis.errors import StoreError
        from pages.components.shared.errors import report

        assert report(StoreError("The store is gone; rebuild it."))
        assert report(KeyError("internal detail"))

    app = AppTest.from_function(script, default_timeout=60).run()
    assert not app.exception
    assert app.error[0].value == "The store is gone; rebuild it."
    assert "(KeyError)" in app.error[1].value
    assert "internal detail" not in app.error[1].value
    assert "internal detail" in caplog.text


@pytest.mark.parametrize(
    ("all_", "image", "text", "said"),
    [
        (0.95, 0.9, 0.9, None),
        (0.7, 0.9, 0.6, "70 % of the variance of these embeddings"),
        (0.9, 0.74, 0.92, "74 % of the variance of the image embeddings"),
        (0.9, None, 0.79, "79 % of the variance of the text embeddings"),
    ],
)
def test_a_poor_sae_is_said_of_the_modality_that_it_is_poor_for(
    all_: float, image: float | None, text: float, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    quality = {part: {"r2_per_dimension": value} for part, value in (("all", all_), ("image", image), ("text", text))}
    store = SimpleNamespace(facts={"quality": quality}, label="some store")
    warned: list[str] = []
    monkeypatch.setattr(layout.st, "warning", lambda words, **_: warned.append(words))
    layout.warn_poor_sae(store)
    assert len(warned) == (said is not None)
    assert all(said is not None and said in words for words in warned)


def test_a_concept_of_captions_has_no_pictures(tmp_path: Path) -> None:
    """Which concepts fire on pictures, from the dense codes of the store."""
    store = open_store(make_store(tmp_path))
    kind = store.samples["modality"].to_numpy()
    seen = set()
    for concept in range(store.n_concepts):
        rows, values = store.postings.rows(concept)
        strongest = sorted(zip(-values, rows, strict=True), key=lambda pair: pair[0])
        pictures = [int(row) for _, row in strongest if kind[row] == "image"]
        assert caching.top_rows(store, concept, 4) == tuple(pictures[:4])
        seen.add((bool(pictures), bool(len(rows)), bool(concept_cards.strip(store, concept))))
    assert seen == {(True, True, True), (False, True, True), (False, False, False)}


def test_pictures_of_captions_are_marked(tmp_path: Path) -> None:
    store = open_store(make_store(tmp_path))
    pair = int(store.samples["pair_id"].iat[concept_cards.firing(store, TEXT_ONLY)[1].rows[0]])
    described = int(caching.corpus(store).first_picture[pair])
    plain, marked = (
        Image.open(io.BytesIO(base64.b64decode(strip.split(",")[1]))).convert("RGB")
        for strip in (caching.strip(store, (described,), 48), concept_cards.strip(store, TEXT_ONLY, 48))
    )
    tile = 24
    assert np.abs(np.asarray(marked)[:, tile : tile + 48].astype(int) - np.asarray(plain)).mean() < 6
    corner = np.median(np.asarray(marked)[:10, :16], axis=(0, 1))
    assert np.abs(corner - np.asarray(channels(TEXT))).max() < 12


@pytest.mark.parametrize("concept", [IMAGE_ONLY, TEXT_ONLY])
def test_live_page_says_of_a_concept_what_the_concept_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, concept: int
) -> None:
    make_store(tmp_path, backbone="qwen2-vl-mini")
    given = {"store": "qwen2-vl-mini", "task": "t2i", "concept": str(concept)}
    live = words(open_page("live_query", tmp_path, monkeypatch, source="data", query="0", **given))
    page = words(open_page("concept", tmp_path, monkeypatch, **given))
    none = "It fires on no picture."
    assert (none in live) == (none in page) == (concept == TEXT_ONLY)
    captions = concept_cards.firing(open_store(next((tmp_path / "qwen2-vl-mini").iterdir())), TEXT_ONLY)[1]
    strongest = f":gray[`{captions.values[0]:#.3g}`]"
    assert (strongest in live) == (strongest in page) == (concept == TEXT_ONLY)


def test_the_tab_says_what_the_page_shows() -> None:
    from pages.components.shared.layout import tab_title

    assert tab_title(r"Concept 12 · a\_b of clip\-mini") == "Concept 12 · a_b of clip-mini · RetrievalLens"
    assert tab_title(":red[text] **x**") == "text x · RetrievalLens"
    assert len(tab_title("w" * 500)) < 110
    assert tab_title("") == "RetrievalLens"
