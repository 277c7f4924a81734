"""The concept page shows what the store holds about one concept; its examples are chosen by pure functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from analysis.build.concept_effects import measure_concept_effects
from analysis.concepts import examples
from analysis.concepts.examples import Firing
from analysis.store import notebook, open_store
from pages.components.concepts import belief
from tests.pages.opening import open_page, sentences, words
from tests.synthetic_store import BOAT_IMAGE, BOAT_TEXT, BRIDGE, IMAGE_ONLY, TEXT_ONLY, keep_untrained, make_store


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("cache"), tokens=True)


@pytest.fixture
def cache(path: Path) -> Path:
    return path.parents[1]


def test_bridge_fires_on_both_sides_of_its_pairs(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = words(open_page("concept", cache, monkeypatch, concept=str(BRIDGE)))
    assert "What does concept 2, “dog”, stand for?" in text
    assert "both modalities" in text
    assert "on **100 %** of the captions of its top pictures" in text
    assert "on **100 %** of the pictures of its top captions" in text


def test_image_only_concept_has_no_captions(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = words(open_page("concept", cache, monkeypatch, concept=str(IMAGE_ONLY)))
    assert "image only" in text
    assert "It fires on no caption." in text
    assert "on **0 %** of the captions of its top pictures" in text


def test_pictures_that_look_the_same_stand_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(cache: Path, *, same: bool) -> int:
        store = open_store(make_store(cache))
        if same:
            files = [store.thumb_path(int(row)) for row in store.postings.rows(IMAGE_ONLY)[0]]
            for file in files:
                file.write_bytes(files[0].read_bytes())
        return len(open_page("concept", cache, monkeypatch, concept=str(IMAGE_ONLY)).get("image"))

    assert shown(tmp_path / "same", same=True) <= shown(tmp_path / "different", same=False) - 5


def test_text_only_concept_has_no_pictures(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = words(open_page("concept", cache, monkeypatch, concept=str(TEXT_ONLY)))
    assert "text only" in text
    assert "It fires on no picture." in text


def test_strongest_caption_comes_first_with_its_value(path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(path)
    rows, values = store.postings.rows(BOAT_TEXT)
    text = words(open_page("concept", cache, monkeypatch, concept=str(BOAT_TEXT)))
    assert f":gray[`{values[0]:#.3g}`] {store.samples['text'][int(rows[0])]}" in text


def test_bridge_partner_and_neighbour_lead_to_each_other(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("concept", cache, monkeypatch, concept=str(BOAT_IMAGE), section="More like this")
    assert "cosine 0.60" in words(app)
    assert "on the captions" not in words(app)
    app = open_page("concept", cache, monkeypatch, concept=str(BOAT_IMAGE), like="Bridge partners")
    assert "on the captions" in words(app)
    link = next(button for button in app.button if button.label.startswith(f"{BOAT_TEXT} ·"))
    link.click().run()
    assert not app.exception
    assert f"What does concept {BOAT_TEXT}, “boat" in app.title[0].value
    assert app.query_params["concept"] in (str(BOAT_TEXT), [str(BOAT_TEXT)])


def tabs(app: AppTest) -> list[str]:
    return [tab.label for tab in app.tabs]


def test_a_new_concept_draws_the_section_in_view_alone(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("concept", cache, monkeypatch, concept=str(BRIDGE))
    assert "What it fires on" in words(app)
    assert "cosine" not in words(app)
    assert "quantile" not in words(app)
    app = open_page("concept", cache, monkeypatch, concept=str(BRIDGE), section="By strength")
    assert "**75 % quantile**" in words(app)
    assert "What it fires on" not in words(app)
    next(button for button in app.button if button.label == "Next").click().run()
    assert "**75 % quantile**" in words(app)


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        ({"like": "Bridge partners"}, "Concepts of the other side"),
        ({"show": "true"}, "paired for the difference"),
        ({"token": "1.2"}, "Concepts on"),
        ({"like": "By direction", "show": "false"}, "What it fires on"),  # what a link says that says everything
    ],
)
def test_a_link_from_before_there_were_sections_shows_what_it_asks_for(
    asked: dict[str, str], seen: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page("concept", cache, monkeypatch, concept=str(BRIDGE), **asked)
    assert seen in words(app)
    assert app.query_params.get("section") is None  # the browser's way back stays as it was


def test_next_and_previous_go_round(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("concept", cache, monkeypatch, concept="31")
    assert "never fires on this data" in words(app)
    next(button for button in app.button if button.label == "Next").click().run()
    assert "concept 0," in app.title[0].value
    next(button for button in app.button if button.label == "Previous").click().run()
    assert "concept 31" in app.title[0].value


def test_concept_typed_in_is_shown(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("concept", cache, monkeypatch)
    app.number_input(key="_jump").set_value(7).run()
    assert "concept 7," in app.title[0].value


@pytest.mark.parametrize("concept", ["32", "-1", "dog", "", "1e3", "9" * 400])
def test_unknown_concept_is_one_sentence(concept: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("concept", cache, monkeypatch, concept=concept)
    assert sum("The link asks for concept" in sentence for sentence in sentences(app)) == 1
    assert "stand for?" in app.title[0].value
    app.run()
    assert not sentences(app)


def test_scores_stand_with_rank_equation_and_meaning(path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = open_page("concept", cache, monkeypatch, concept=str(BRIDGE)).table[0].value
    energy = open_store(path).concepts["energy"]
    rank = int((energy > energy[BRIDGE]).sum()) + 1
    row = table.loc["energy"]
    assert row["rank"].replace("\N{NO-BREAK SPACE}", " ") == f"{rank} of 32"
    assert row["paper"] == "Eq. 3"
    assert row["what it says"]


def test_label_is_kept_with_history_and_becomes_the_title(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(make_store(tmp_path))
    app = open_page("concept", tmp_path, monkeypatch, concept="2")
    for text in ("hound", "poodle"):
        app.text_input[0].set_value(text)
        app.text_input[1].set_value("Ada")
        next(button for button in app.button if button.label == "Keep").click().run()
        assert not app.exception
    assert "“poodle”" in app.title[0].value
    kept = notebook.history(tmp_path / "notes", store.config["sae"]["sha256"], 2)
    assert [(label.text, label.author) for label in kept] == [("poodle", "Ada"), ("hound", "Ada")]


def test_pin_keeps_the_view_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path)
    app = open_page("concept", tmp_path, monkeypatch, concept="2")
    app.button(key="pin_this_view").click().run()
    next(area for area in app.text_area if area.label == "Note").set_value("dogs on both sides")
    app.button(key="pin_keep").click().run()
    assert not app.exception
    (finding,) = notebook.findings(tmp_path / "notes")
    assert finding.page == "concept"
    assert finding.params["concept"] == ["2"]
    assert finding.note == "dogs on both sides"
    assert "concepts.loc[2]" in finding.command
    assert notebook.finding(tmp_path / "notes", finding.id).parts


def test_retrieval_without_the_concept_is_measured_when_asked(
    path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page("concept", cache, monkeypatch, concept=str(BRIDGE), section="Retrieval without it")
    assert not app.dataframe
    app.toggle(key="show").set_value(True).run()
    assert not app.exception
    table = app.dataframe[0].value
    assert table.iloc[:, 0].tolist() == ["R@1", "R@5", "R@10"]

    store = open_store(path)
    task = store.task("i2t")
    direction = store.sae().dictionary[BRIDGE]

    def hits(h: np.ndarray, c: np.ndarray) -> float:
        unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (h, c)]
        best = np.argsort(-(unit[0] @ unit[1].T), axis=1, kind="stable")[:, :5]
        return float(np.mean([task.qrels[[q], :].toarray()[0, best[q]].any() for q in range(len(best))]))

    sides = [store.embeddings("mean", rows).astype(np.float64) for rows in (task.query_rows, task.candidate_rows)]
    without = [x - np.outer(x @ direction, direction) for x in sides]
    assert table["base"].iloc[1].replace("\N{NO-BREAK SPACE}", " ") == f"{100 * hits(*sides):.1f} %"
    assert table["without the concept"].iloc[1].replace("\N{NO-BREAK SPACE}", " ") == f"{100 * hits(*without):.1f} %"


def test_tokens_show_where_they_are_kept_and_are_silent_elsewhere(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"concept": "0", "section": "Where it fires"}
    assert "Where it fires" in tabs(open_page("concept", cache, monkeypatch, **asked))
    make_store(tmp_path)
    app = open_page("concept", tmp_path, monkeypatch, **asked)
    assert "Where it fires" not in tabs(app)
    assert "What it fires on" in words(app)


def test_a_token_shows_its_concepts_and_who_else_has_them(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(next(cache.glob("clip-mini/*")))
    view = store.token_view(1)
    values, ids = np.asarray(view.codes.values[2]), np.asarray(view.codes.indices[2])
    app = open_page("concept", cache, monkeypatch, concept=str(BRIDGE), token="1.2")
    text = words(app)
    assert f"Concepts on “{view.strings[2]}”" in text
    assert f"**{view.strings[2]}**" in text
    for concept, value in zip(ids, values, strict=True):
        assert (f"activation {value:.3g} on it" in text) == (value > 0), concept
    assert "1 of the other 1 samples" in text
    assert "<s>" not in text
    next(button for button in app.button if button.label == "Close").click().run()
    assert "Click a patch or a word" in words(app)
    assert "token" not in app.query_params


def test_a_token_that_is_not_kept_is_one_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for token in ("1", "1.99", "77.0", "a.b", "-1.2"):
        app = open_page("concept", cache, monkeypatch, concept="0", token=token)
        assert [line for line in sentences(app) if "expected row.position" in line], token
        assert not app.error


def test_the_aggregation_says_which_tokens_count(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last token of the planted samples belongs to the template and is the loudest."""
    store = open_store(next(cache.glob("clip-mini/*")))
    asked = {"concept": str(BRIDGE), "section": "Where it fires"}
    app = open_page("concept", cache, monkeypatch, **asked, counted="content")
    strip = next(chart for chart in app.get("plotly_chart") if "-tokens-" in chart.proto.id)
    assert '"aside"' in strip.proto.spec
    everything = open_page("concept", cache, monkeypatch, **asked, counted="all", aggregation="pooled")
    strip = next(chart for chart in everything.get("plotly_chart") if "-tokens-" in chart.proto.id)
    assert '"aside"' not in strip.proto.spec
    assert store.token_view(1) is not None


def test_names_are_mine_or_everybodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_store(tmp_path, pictures=False)
    sha = str(open_store(path).config["sae"]["sha256"])
    notebook.add_label(tmp_path / "notes", sha, BRIDGE, "hound", "Ada")
    notebook.add_label(tmp_path / "notes", sha, BRIDGE, "poodle", "Bob")
    everybody = open_page("concept", tmp_path, monkeypatch, concept=str(BRIDGE))
    assert "“poodle”" in everybody.title[0].value
    app = open_page("concept", tmp_path, monkeypatch, concept=str(BRIDGE), labels="Ada")
    assert "“hound”" in app.title[0].value
    assert "poodle" in words(app)  # in the history, which keeps all
    listed = open_page("concepts", tmp_path, monkeypatch, words="poodle", labels="Ada")
    assert "--labels-of Ada" in "\n".join(block.value for block in listed.code)
    assert "No concept" in words(listed)
    assert len(open_page("concepts", tmp_path, monkeypatch, words="poodle").dataframe[0].value) == 1
    chosen = next(part for part in app.segmented_control if part.key == "_whose_labels")
    chosen.set_value("").run()
    assert "“poodle”" in app.title[0].value
    assert "labels" not in app.query_params


def test_labels_leave_and_come_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_store(tmp_path, pictures=False)
    sha = str(open_store(path).config["sae"]["sha256"])
    notebook.add_label(tmp_path / "notes", sha, BRIDGE, "hound", "Ada")
    app = open_page("concept", tmp_path, monkeypatch, concept=str(BRIDGE))
    assert any(part.proto.label == "Save all labels" for part in app.get("download_button"))
    row = f"{sha[:16]},{BOAT_TEXT},ferry,Eve,2026-01-01T00:00:00+00:00"
    app.file_uploader(key="_labels_file").upload("labels.csv", f"sae,concept,text,author,time\n{row}\n".encode()).run()
    app.button(key="labels_take").click().run()
    assert not app.exception
    assert notebook.labels(tmp_path / "notes", sha)[BOAT_TEXT].text == "ferry"
    assert notebook.labels(tmp_path / "notes", sha)[BRIDGE].text == "hound"


def test_a_second_sae_says_whether_the_concept_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = make_store(tmp_path, pictures=False), make_store(tmp_path, pictures=False, seed=1)
    store = f"clip-mini/{first.name}"
    app = open_page("concept", tmp_path, monkeypatch, store=store, concept=str(BRIDGE))
    assert "Seed stability: **found again**" in words(app)
    assert f"its concept {BRIDGE} correlates" in words(app)
    assert f"other=clip-mini/{second.name}&concept={BRIDGE}&other_concept={BRIDGE}" in words(app)
    assert "Ground truth" not in words(app)


# --- the pure functions -------------------------------------------------------------------------------------------
FIRING = Firing(np.arange(100), np.linspace(10, 1, 100))


@pytest.mark.parametrize("quantile", [0.75, 0.5, 0.25])
def test_examples_of_a_quantile_surround_it(quantile: float) -> None:
    found = examples.around(FIRING, quantile, 6)
    assert len(found) == 6
    assert found.values.min() <= np.quantile(FIRING.values, quantile) <= found.values.max()


@pytest.mark.parametrize("n", [3, 7, 20, 24, 100])
def test_quantiles_of_few_examples_do_not_repeat_each_other(n: int) -> None:
    found = [examples.around(FIRING[:n], quantile, 6).rows.tolist() for quantile in examples.QUANTILES]
    assert all(found)
    shown = [row for rows in found for row in rows]
    assert len(set(shown)) == len(shown)
    assert shown == sorted(shown)


def test_a_concept_that_fires_once_or_never_has_its_quantiles_too() -> None:
    assert examples.around(FIRING[:1], 0.25, 6).rows.tolist() == [0]
    assert len(examples.around(FIRING[:0], 0.5, 6)) == 0


def test_random_examples_are_the_same_for_everybody_and_sorted() -> None:
    first, again = examples.at_random(FIRING, 6, seed=4), examples.at_random(FIRING, 6, seed=4)
    assert first.rows.tolist() == again.rows.tolist()
    assert len(set(first.rows.tolist())) == 6
    assert (np.diff(first.values) < 0).all()
    assert examples.at_random(FIRING, 6, seed=5).rows.tolist() != first.rows.tolist()


def test_near_duplicates_stand_once() -> None:
    texts = np.asarray(["A cat", "a  cat ", "dog", "a cat"], object)
    found = examples.distinct(Firing(np.arange(4), np.asarray([4.0, 3, 2, 1])), texts, 3)
    assert found.rows.tolist() == [0, 2]


def test_paired_share_is_that_of_the_simple_loop() -> None:
    rng = np.random.default_rng(0)
    pair_id = np.repeat(np.arange(30), 3)
    kind = np.tile([examples.IMAGE, examples.TEXT, examples.TEXT], 30)
    fires = rng.random(90) < 0.4
    top = np.flatnonzero(fires & (kind == examples.IMAGE))[:8]
    partners = np.flatnonzero(fires & (kind == examples.TEXT))
    captions = [row for row in range(90) if kind[row] == examples.TEXT and pair_id[row] in set(pair_id[top])]
    expected = np.mean([fires[row] for row in captions])
    assert examples.paired_share(top, partners, pair_id, np.full(30, 2)) == pytest.approx(expected)
    assert np.isnan(examples.paired_share(top[:0], partners, pair_id, np.full(30, 2)))


def test_samples_of_retrieval_only_are_no_examples() -> None:
    kind = examples.kinds(np.asarray(["image", "text", "image", "image_text"], object), np.asarray([0, 0, -1, -1]))
    pictures, captions = examples.split(np.arange(4), np.ones(4), kind)
    assert pictures.rows.tolist() == [0]
    assert captions.rows.tolist() == [1]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose belief scores and effects were computed, with the SAE that its training began from."""
    path = keep_untrained(make_store(tmp_path_factory.mktemp("measured"), n_pairs=60))
    measure_concept_effects(path, say=lambda text: None)
    return path


def test_the_page_says_whether_the_name_holds_on_unseen_samples(
    measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(measured)
    assert store.concepts["name"][BRIDGE] == "dog"
    app = open_page("concept", measured.parents[1], monkeypatch, concept=str(BRIDGE))
    f1, control = store.concepts["word_f1"][BRIDGE], store.untrained["word_f1"].median()
    assert f"predicts on which unseen samples it fires: F1 **{f1:.2f}**" in words(app)
    assert f"untrained SAE {control:.2f}" in words(app)
    assert control < f1
    assert "untrained SAE" in app.table[1].value


def test_what_always_fires_is_called_constant_and_has_no_name(measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_store(measured).concepts["name"][IMAGE_ONLY] == ""
    text = words(open_page("concept", measured.parents[1], monkeypatch, concept=str(IMAGE_ONLY)))
    assert "No shared meaning found" in text
    assert ":orange-badge[constant]" in text
    assert "unseen pictures" in text


def test_without_a_control_none_is_claimed(path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_store(path).untrained is None
    app = open_page("concept", cache, monkeypatch, concept=str(BRIDGE))
    assert "untrained SAE" not in words(app)
    assert all("untrained SAE" not in table.value for table in app.table)


def test_the_board_names_who_hurts_and_leads_to_the_lab(measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(measured)
    app = open_page("concepts", measured.parents[1], monkeypatch, view="effect", task="t2i")
    text = words(app)
    assert "Hurt most" in text
    rows = store.effects[(store.effects["task"] == "t2i") & (store.effects["k"] == 0)]
    worst = rows.sort_values(["difference", "concept"], ascending=[True, True]).iloc[0]
    assert f"without it {100 * worst['difference']:+.1f}".replace("-", "\N{MINUS SIGN}") in text
    np.testing.assert_allclose(
        store.concepts["effect_t2i"][rows["concept"]], 100 * rows["difference"], atol=1e-9, err_msg="the column"
    )


def test_a_store_without_effects_says_the_command(path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "analysis concept-effects" in words(open_page("concepts", cache, monkeypatch, view="effect"))


def test_filters_of_belief_density_and_effect(measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = open_store(measured).concepts
    cache = measured.parents[1]

    def shown(**params: str) -> set[int]:
        return set(open_page("concepts", cache, monkeypatch, **params).dataframe[0].value["id"])

    live = table["energy"] > 0
    assert shown(named="name holds") == set(table.index[live & (table["name"] != "")])
    assert shown(density="constant") == {IMAGE_ONLY, TEXT_ONLY}
    assert shown(effect="helps recall") == set(table.index[live & (table["effect"] < 0)])


def test_the_sentence_of_a_concept_without_a_name_fits_its_number() -> None:
    row = pd.Series({"word_f1": 0.2, "word_auroc": 0.6, "modality_score": 0.9})
    assert "no word predicts on which unseen captions" in belief.sentence(row, False, 0.1)
    row["word_f1"] = 0.57
    said = belief.sentence(row, False, 0.1)
    assert "no word predicts" not in said
    assert "no word holds on both halves of the captions" in said
    assert "0.57" in said
