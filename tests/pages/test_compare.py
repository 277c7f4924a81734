"""Two stores side by side: twins with their evidence, what one side has alone, and a pair of concepts in detail."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.concepts.twins import find_twins, twins_by_chance
from analysis.store import notebook, open_store
from analysis.store.finding import Gallery, Table
from tests.pages.opening import open_page, sentences, two_models, words
from tests.synthetic_store import BOAT_IMAGE, BRIDGE, IMAGE_ONLY, make_store


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_models(tmp_path_factory.mktemp("cache"))


def test_two_models_of_the_same_codes_are_all_twins(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("compare", cache, monkeypatch)
    assert not sentences(app)
    stores = [open_store(path) for path in sorted(cache.glob("*-mini/*"))]
    found = find_twins(stores[0].codes, stores[1].codes)
    assert f"**{len(found.pairs)} twins** (one to one" in words(app)
    here, kinds = stores[0].codes, (stores[0].samples["modality"] == "text").to_numpy()
    assert f"{twins_by_chance(here, stores[1].codes, kinds)} by chance" in words(app)
    table = app.dataframe[0].value
    assert (table["concept here"] == table["concept there"]).all()
    assert table["here"].iloc[0].startswith("data:image/webp")
    assert table["same"].str.contains(" of ").all()


def test_a_picked_row_opens_its_pair(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("compare", cache, monkeypatch)
    app.session_state["_open_pair"] = (BRIDGE, BOAT_IMAGE)
    app.run()
    assert app.number_input(key="_compare_concept").value == BRIDGE
    assert app.number_input(key="_compare_other_concept").value == BOAT_IMAGE
    assert "both fire on **0**" in words(app)


def test_one_sample_goes_through_both(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("compare", cache, monkeypatch, sample="3")
    for path in sorted(cache.glob("*-mini/*")):
        codes = open_store(path).codes
        assert f"activation {codes.values[3].max():#.3g}" in words(app)
    assert open_page("compare", cache, monkeypatch, sample="999999").number_input(key="sample").value < 999


def test_what_stands_on_one_side_only_is_listed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("compare", cache, monkeypatch, listed="only here")
    assert not app.error
    stores = [open_store(path) for path in sorted(cache.glob("*-mini/*"))]
    alone = find_twins(stores[0].codes, stores[1].codes).here.tolist()
    shown = app.dataframe[0].value["concept"].tolist() if app.dataframe else []
    assert shown == alone


def test_one_store_twice_compares_two_of_its_concepts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(make_store(tmp_path))
    app = open_page("compare", tmp_path, monkeypatch, concept=str(IMAGE_ONLY), other_concept=str(BRIDGE))
    text = words(app)
    assert "twins**" not in text
    image, dog = (set(store.postings.rows(concept)[0].tolist()) for concept in (IMAGE_ONLY, BRIDGE))
    assert f"both fire on **{len(image & dog)}**, only concept {IMAGE_ONLY} on {len(image - dog)}" in text
    assert f"only concept {BRIDGE} on {len(dog - image)}" in text
    titles = [part.value for part in app.subheader]
    assert titles == ["Both fire", f"Only concept {IMAGE_ONLY}", f"Only concept {BRIDGE}"]
    assert "cosine of directions 0.00" in text or "cosine of directions -0.00" in text


def test_the_concept_page_leads_to_a_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(make_store(tmp_path))
    app = open_page("concept", tmp_path, monkeypatch, concept=str(BRIDGE), section="More like this")
    nearest = next(int(i) for i in store.neighbours[BRIDGE] if store.concepts["energy"].iat[int(i)] > 0)
    identity = f"clip-mini/{store.name}"
    assert f"/compare?store={identity}&other={identity}&concept={BRIDGE}&other_concept={nearest})" in words(app)


def test_stores_without_a_shared_sample_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path, n_pairs=6, pictures=False)
    other = make_store(tmp_path, backbone="qwen2-vl-mini", n_pairs=6, pictures=False)
    renamed = open_store(other).samples.assign(sample_id=[f"other:{row}" for row in range(18)])
    monkeypatch.setattr(
        "analysis.store.read.Store.samples",
        property(lambda store: renamed if store.backbone == "qwen2-vl-mini" else original(store)),
    )
    app = open_page("compare", tmp_path, monkeypatch)
    assert any("share no sample" in sentence for sentence in sentences(app))


def original(store: object) -> object:
    return store._table("samples.parquet")  # type: ignore[attr-defined]


def test_a_pair_and_a_list_are_pinned_with_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = two_models(tmp_path)
    app = open_page("compare", cache, monkeypatch, concept=str(BRIDGE), other_concept=str(BOAT_IMAGE))
    said = words(app).replace("**", "")
    listed = next(button.key for button in app.button if button.label == "Pin" and "twins" in str(button.key))
    for key in ("pin_pair", listed):
        app.button(key=key).click().run()
        app.button(key="pin_keep").click().run()
        assert not app.exception
    pair, twins = (notebook.finding(cache / "notes", one.id) for one in notebook.findings(cache / "notes"))
    galleries = [part for part in pair.parts if isinstance(part, Gallery)]
    assert [gallery.captions[0].split()[0] for gallery in galleries] == [str(BRIDGE), str(BOAT_IMAGE)]
    assert all(gallery.pictures for gallery in galleries)
    assert pair.sentence.partition(". ")[2] in said
    assert len(pair.stores) == len(twins.stores) == 2
    assert twins.sentence in said
    assert isinstance(twins.parts[0], Table)
    assert "here" not in twins.parts[0].columns
