"""The browser shows the concepts that pass the filters, in the order asked for, and a click opens one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.concepts import browse
from analysis.concepts.browse import Filters
from analysis.figures.concepts import concept_scatter as figure
from analysis.store import open_store
from analysis.store.notebook import add_label
from tests.pages.opening import open_page, sentences, words
from tests.synthetic_store import BRIDGE, IMAGE_ONLY, TEXT_ONLY, make_store


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def cache(path: Path) -> Path:
    return path.parents[1]


def shown(cache: Path, monkeypatch: pytest.MonkeyPatch, **params: str) -> list[int]:
    return open_page("concepts", cache, monkeypatch, **params).dataframe[0].value["id"].tolist()


def test_default_is_every_live_concept_loudest_first(path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    energy = open_store(path).concepts["energy"]
    assert shown(cache, monkeypatch) == energy[energy > 0].sort_values(ascending=False, kind="stable").index.tolist()


def test_dead_concepts_come_when_asked_for_and_last(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(cache, monkeypatch, alive="false", sort="modality")[-1] == 31


def test_sorting_by_label_of_the_score(path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = shown(cache, monkeypatch, sort="attribution", order="ascending")
    values = open_store(path).concepts["attribution"].to_numpy()[found]
    assert (np.diff(values) >= 0).all()


def test_modality_range_keeps_its_own_side(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("concepts", cache, monkeypatch)
    app.slider(key="modality").set_value((0.0, 0.05)).run()
    assert set(app.dataframe[0].value["id"]) == {IMAGE_ONLY, 3}
    app.slider(key="modality").set_value((0.95, 1.0)).run()
    assert set(app.dataframe[0].value["id"]) == {TEXT_ONLY, 4}


def test_words_find_names_and_captions(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = shown(cache, monkeypatch, words="DOG")
    assert BRIDGE in found
    assert len(found) < 31
    assert shown(cache, monkeypatch, words="17") == [17]


def test_label_is_found_and_shown_instead_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(make_store(tmp_path))
    add_label(tmp_path / "notes", store.config["sae"]["sha256"], 9, "zebra crossing", "Ada")
    app = open_page("concepts", tmp_path, monkeypatch, words="zebra")
    assert app.dataframe[0].value["id"].tolist() == [9]
    assert app.dataframe[0].value["name"].tolist() == ["zebra crossing"]


def test_nothing_found_says_so_and_offers_the_way_back(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("concepts", cache, monkeypatch, words="unicorn")
    assert "No concept" in words(app)
    app.button[-1].click().run()
    assert len(app.dataframe[0].value) == 31


def test_picked_cell_opens_its_concept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: dict[str, object] = {}
    monkeypatch.setattr(
        "pages.components.shared.state.open_page", lambda page, **params: opened.update(page=page, **params)
    )
    app = open_page("concepts", cache, monkeypatch)
    app.session_state["_open_concept"] = 5
    app.run()
    assert opened["page"] == "concept"
    assert opened["concept"] == 5
    assert str(opened["store"]).startswith("clip-mini/")


@pytest.mark.parametrize("view", ["map", "histogram"])
def test_pictures_show_without_complaint(view: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("concepts", cache, monkeypatch, view=view)
    assert not sentences(app)
    assert "live" in words(app) or "concepts" in words(app)
    assert len(app.dataframe[0].value) == 31


def test_rows_have_pictures_also_for_concepts_of_captions(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = open_page("concepts", cache, monkeypatch).dataframe[0].value.set_index("id")
    assert table["pictures"][TEXT_ONLY].startswith("data:image/webp;base64,")


def test_the_map_keeps_all_concepts_and_lights_up_what_a_search_found(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {}
    monkeypatch.setattr(
        "analysis.figures.concepts.concept_scatter",
        lambda x, y, **given: drawn.update(ids=given["ids"], lit=given["highlight"]) or figure(x, y, **given),
    )
    app = open_page("concepts", cache, monkeypatch, view="map", words="dog")
    assert len(drawn["ids"]) == 31
    assert sorted(drawn["lit"]) == sorted(app.dataframe[0].value["id"])


def test_an_example_of_the_data_shows_the_concepts_that_fire_on_it(
    path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = open_store(path).codes
    app = open_page("concepts", cache, monkeypatch, view="by example", sample="4")
    table = app.dataframe[0].value
    fired = codes.values[4] > 0
    assert table["id"].tolist() == codes.indices[4][fired][np.argsort(-codes.values[4][fired])].tolist()
    assert (np.diff(table["fires"]) <= 0).all()
    app.text_input(key="_example_words").set_value("boats").run()
    said = open_store(path).samples["text"][app.number_input(key="sample").value]
    assert "boat" in said or not said


# --- the pure functions -------------------------------------------------------------------------------------------
def test_selection_of_a_range_on_a_histogram_becomes_ids() -> None:
    values, ids = np.asarray([0.1, 0.5, 0.9, np.nan]), np.asarray([4, 7, 2, 9])
    event = {"selection": {"points": [], "box": [{"x": [0.95, 0.4], "y": [0, 1]}]}}
    assert browse.brushed(event, values, ids).tolist() == [7, 2]
    assert browse.brushed({"selection": {"box": []}}, values, ids) is None
    assert browse.brushed(None, values, ids) is None


def test_filters_agree_with_the_simple_loop(path: Path) -> None:
    table = open_store(path).concepts
    rank = table["energy"].rank(ascending=False, method="first").to_numpy()
    filters = Filters((0.2, 0.8), 50.0, (2.0, 60.0), True)
    kept = [
        i
        for i, row in table.iterrows()
        if row["energy"] > 0
        and 0.2 <= row["modality_score"] <= 0.8
        and rank[i] <= 16
        and 2 <= 100 * row["frequency"] <= 60
    ]
    assert browse.select(table, rank, filters).tolist() == kept
    assert kept


def test_order_puts_missing_scores_last_both_ways(path: Path) -> None:
    table = open_store(path).concepts
    ids = np.arange(len(table))
    for descending in (True, False):
        assert browse.order(table, ids, "modality_score", descending=descending)[-1] == 31


def test_pictures_say_what_their_first_caption_says(path: Path) -> None:
    samples = open_store(path).samples
    pair_id, texts = samples["pair_id"].to_numpy(), samples["text"].to_numpy(object)
    first = np.asarray([samples.index[(pair_id == p) & (texts != "")][0] for p in range(pair_id.max() + 1)])
    said = browse.said_by(texts, pair_id, first)
    for row in range(len(texts)):
        assert said[row] == (texts[row] or texts[first[pair_id[row]]])
    assert browse.said_by(np.array([""], object), np.array([-1]), first).tolist() == [""]


def test_search_is_ranked_says_why_and_can_be_sorted_otherwise(
    path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page("concepts", cache, monkeypatch, words="dogs")
    table = app.dataframe[0].value
    assert table["id"].iloc[0] == BRIDGE, "named after it"
    assert "‹dog›" in table["why"].iloc[0]
    assert "No concept" in words(open_page("concepts", cache, monkeypatch, words="do")), "whole words only"
    by_energy = shown(cache, monkeypatch, words="dogs", sort="energy")
    energy = open_store(path).concepts["energy"].to_numpy()[by_energy]
    assert (np.diff(energy) <= 0).all()
    assert set(by_energy) == set(table["id"])


def test_typing_words_sorts_by_relevance_and_clearing_them_by_energy(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page("concepts", cache, monkeypatch)
    app.text_input(key="words").set_value("dog").run()
    assert app.selectbox(key="sort").value == browse.RELEVANCE
    app.text_input(key="words").set_value("").run()
    assert app.selectbox(key="sort").value == "energy"
    assert len(app.dataframe[0].value) == 31


def test_a_collection_goes_from_the_concept_into_the_list_the_link_and_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_store(tmp_path, pictures=False)
    sae = str(open_store(path).config["sae"]["sha256"])[:6]
    one = open_page("concept", tmp_path, monkeypatch, concept="3")
    one.button(key="collect").click().run()
    assert one.button(key="collect").label == "Collected (1)"
    assert one.query_params["collected"] in (f"{sae}:3", [f"{sae}:3"])
    app = open_page("concepts", tmp_path, monkeypatch, collected=f"{sae}:3,7", only_collected="true")
    assert sorted(app.dataframe[0].value["id"]) == [3, 7]
    assert "--only" in "\n".join(block.value for block in app.code)
    assert f"collected={sae}%3A3,7" in app.code[0].value
    everything = open_page("concepts", tmp_path, monkeypatch, collected=f"{sae}:3,7")
    assert len(everything.dataframe[0].value) > 2
    next(button for button in app.button if button.label == "Empty it").click().run()
    assert "collected" not in app.query_params
    assert len(app.dataframe[0].value) > 2


def test_a_collection_of_another_sae_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_store(tmp_path, pictures=False)
    sae = str(open_store(path).config["sae"]["sha256"])[:6]
    other = open_page("concepts", tmp_path, monkeypatch, collected="zzzzzz:3,7", only_collected="true")
    assert not sentences(other)
    assert len(other.dataframe[0].value) > 2
    wrong = open_page("concepts", tmp_path, monkeypatch, collected=f"{sae}:3,99999,x", only_collected="true")
    assert wrong.dataframe[0].value["id"].tolist() == [3]
    assert [line for line in sentences(wrong) if "left out of the collection" in line]


def test_a_saved_view_is_a_link_for_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_store(tmp_path, pictures=False)
    sae = str(open_store(path).config["sae"]["sha256"])[:6]
    app = open_page("concepts", tmp_path, monkeypatch, words="dog", collected=f"{sae}:3", modality="0.2")
    next(box for box in app.text_input if box.label == "Save this view as").set_value("my dogs")
    next(button for button in app.button if button.label == "Save" and "save_view" in str(button.form_id)).click().run()
    assert not app.exception
    later = open_page("concepts", tmp_path, monkeypatch)
    (link,) = [line.value for line in later.markdown if "my dogs" in line.value]
    assert "/concepts?" in link
    assert "words=dog" in link
    assert f"collected={sae}%3A3" in link


def test_pictures_for_the_map_are_the_strongest_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pages.components.concepts import map_hover
    from pages.components.shared import caching

    store = open_store(make_store(tmp_path))
    found = map_hover.pictures_of(store, [BRIDGE, IMAGE_ONLY])
    row = store.postings.rows(BRIDGE)[0]
    first = next(int(i) for i in row if store.samples["modality"].iat[int(i)] == "image")
    assert found[str(BRIDGE)][0] == caching.picture(store, first)
    assert len(found[str(BRIDGE)]) == map_hover.PICTURES
    monkeypatch.setattr(map_hover, "MOST_BYTES", sum(map(len, found[str(BRIDGE)])) + 10)
    assert list(map_hover.pictures_of(store, [BRIDGE, IMAGE_ONLY])) == [str(BRIDGE)]


def test_filters_that_are_on_are_counted_and_cleared_but_the_search_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(tmp_path, pictures=False)
    app = open_page("concepts", tmp_path, monkeypatch, words="dog", energy="50", alive="false")
    assert "2 filters on" in words(app)
    app.button(key="_clear_filters").click().run()
    assert "filters on" not in words(app)
    assert app.text_input(key="words").value == "dog"
    assert app.session_state["energy"] == 100


def test_the_map_by_energies_says_where_the_silent_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path)
    app = open_page("concepts", tmp_path, monkeypatch, view="map", projection="energies")
    assert not app.error
    assert "never on that side" in words(app)


def test_the_map_names_its_projection_and_offers_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path, pictures=False)
    for projection in ("UMAP", "PCA"):
        app = open_page("concepts", tmp_path, monkeypatch, view="map", projection=projection)
        assert not sentences(app)
        assert f"Positions by {projection} of the directions" in words(app)


def test_a_region_of_the_map_holds_what_lies_in_it_drawn_or_not() -> None:
    """Against matplotlib-free oracles: a triangle by its three half planes, a box by its sides."""
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 5000))
    assert browse.in_region(None, x, y) is None
    assert browse.in_region({"selection": {"points": [], "box": [], "lasso": []}}, x, y) is None
    triangle = {"x": [-0.5, 0.5, 0.0], "y": [-0.5, -0.5, 0.5]}
    found = browse.in_region({"selection": {"lasso": [triangle]}}, x, y)
    assert found is not None
    assert (found == ((y > -0.5) & (y < 0.5 - 2 * np.abs(x)))).all()
    both = browse.in_region({"selection": {"lasso": [triangle], "box": [{"x": [0.9, 0.7], "y": [-1, 1]}]}}, x, y)
    assert both is not None
    assert (both == (found | ((x >= 0.7) & (x <= 0.9)))).all()
    assert (
        browse.in_region(
            {"selection": {"box": [{"x": [0, 1], "y": [0, 1]}]}}, np.array([np.nan]), np.array([0.5])
        ).sum()
        == 0
    )
