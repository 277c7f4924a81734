"""The Bridges page: the planted bridge first, raw and beyond the null; a pair with the samples on which it meets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.concepts.bridges import strongest
from analysis.store import notebook, open_store
from analysis.store.finding import Gallery, Table
from pages.components.shared import state
from tests.pages.opening import open_page, sentences, words
from tests.synthetic_store import BOAT_IMAGE, BOAT_TEXT, BRIDGE, IMAGE_ONLY, TEXT_ONLY, make_store


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    make_store(folder)
    return folder


def test_both_orders_list_what_the_store_keeps(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = open_store(next(cache.glob("clip-mini/*"))).bridges
    for ranked, by in (("raw", "bridge"), ("beyond the null", "excess")):
        app = open_page("bridges", cache, monkeypatch, view="table", ranked=ranked)
        assert not sentences(app)
        table = app.dataframe[0].value
        assert table["excess"].tolist() == strongest(kept, by)["excess"].head(100).tolist()
        assert table["image concept"].iloc[0].startswith(f"{BRIDGE} · ")
        assert table["pictures"].iloc[0].startswith("data:image/webp")


def test_without_its_own_bridges_a_concept_meets_its_partner(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("bridges", cache, monkeypatch, view="table", apart="true")
    first = app.dataframe[0].value.iloc[0]
    assert (first["image concept"].split()[0], first["text concept"].split()[0]) == (str(BOAT_IMAGE), str(BOAT_TEXT))
    assert "boat" in first["captions"]
    assert f"Bridge {BOAT_IMAGE} → {BOAT_TEXT}" in words(app)


def test_a_pair_says_where_it_meets_and_both_numbers(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(next(cache.glob("clip-mini/*")))
    app = open_page("bridges", cache, monkeypatch, pair=f"{BOAT_IMAGE},{BOAT_TEXT}")
    row = store.bridges.set_index(["image_concept", "text_concept"]).loc[(BOAT_IMAGE, BOAT_TEXT)]
    shown = {metric.label: metric.value for metric in app.metric}
    assert float(shown["co-activation"]) == pytest.approx(row["coactivation"], rel=5e-3)
    assert float(shown["cosine"]) == pytest.approx(row["cosine"], rel=5e-3)
    boats = sum(pair % 3 == 1 for pair in range(40))
    assert f"Of the {2 * boats} pairs" in words(app)
    assert f"**{2 * boats}** (**100.0 %**; over all 80 pairs it fires on {100 * boats / 40:.1f} %" in words(app)


def test_a_pair_beyond_the_kept_ones_is_computed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(next(cache.glob("clip-mini/*")))
    kept = store.bridges
    assert not len(kept[(kept["image_concept"] == BOAT_IMAGE) & (kept["text_concept"] == TEXT_ONLY)])
    app = open_page("bridges", cache, monkeypatch, pair=f"{BOAT_IMAGE},{TEXT_ONLY}")
    z, pair = store.codes.to_csr().toarray(), store.samples["pair_id"].to_numpy()
    image = {pair[row]: row for row in np.flatnonzero(store.samples["modality"] == "image")}
    captions = np.flatnonzero(store.samples["modality"] == "text")
    together = np.mean([z[image[pair[row]], BOAT_IMAGE] * z[row, TEXT_ONLY] for row in captions])
    shown = {metric.label: float(metric.value) for metric in app.metric}
    assert shown["co-activation"] == pytest.approx(together, rel=5e-3)
    assert abs(shown["bridge B"]) < 1e-3


def test_from_a_concept_to_its_partner_and_back(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("bridges", cache, monkeypatch, of=str(BOAT_TEXT), view="table")
    assert all(
        str(BOAT_TEXT) in (row["image concept"].split()[0], row["text concept"].split()[0])
        for _, row in app.dataframe[0].value.iterrows()
    )
    assert app.number_input(key="_bridges_of").value == BOAT_TEXT
    app.number_input(key="_bridges_of").set_value(BRIDGE).run()
    assert app.query_params["of"] in (str(BRIDGE), [str(BRIDGE)])
    next(button for button in app.button if button.label == "All bridges").click().run()
    assert "of" not in app.query_params
    assert "strongest bridges" in words(app)


def test_the_concept_page_leads_to_its_bridges(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("concept", cache, monkeypatch, concept=str(BOAT_IMAGE), section="More like this")
    assert f"/bridges?store=clip-mini/{next(cache.glob('clip-mini/*')).name}&of={BOAT_IMAGE})" in words(app)


@pytest.mark.parametrize("pair", ["7", "a,b", "1,9999", "-1,2"])
def test_a_nonsense_pair_is_one_sentence(pair: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("bridges", cache, monkeypatch, pair=pair)
    assert [sentence for sentence in sentences(app) if "expected two concepts" in sentence]
    assert f"Bridge {BRIDGE} → {BRIDGE}" in words(app)


def test_a_picked_row_is_a_place_in_the_address(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("bridges", cache, monkeypatch)
    app.session_state["_open_bridge"] = (IMAGE_ONLY, BRIDGE)
    app.run()
    assert app.query_params[state.PAIR] in (f"{IMAGE_ONLY},{BRIDGE}", [f"{IMAGE_ONLY},{BRIDGE}"])


def test_a_pinned_pair_keeps_both_concepts_and_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path)
    app = open_page("bridges", tmp_path, monkeypatch, pair=f"{BOAT_IMAGE},{BOAT_TEXT}")
    app.button(key="pin_bridge").click().run()
    app.button(key="pin_keep").click().run()
    assert not app.exception
    (card,) = notebook.findings(tmp_path / "notes")
    kept = notebook.finding(tmp_path / "notes", card.id)
    assert [type(part) for part in kept.parts] == [Gallery, Gallery, Table]
    assert "fires on the caption" in kept.sentence
    assert kept.params[state.PAIR] == [f"{BOAT_IMAGE},{BOAT_TEXT}"]
