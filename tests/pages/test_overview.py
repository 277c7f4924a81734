"""The overview's sentences are computed from the chosen stores, and published numbers stay apart."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from analysis.store import Store, open_store
from pages.components.shared import caching
from tests.pages.opening import open_page, words
from tests.store.tamper import edit_manifest
from tests.synthetic_store import make_store


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("cache")
    return make_store(folder, backbone="clip-mini"), make_store(
        folder, backbone="qwen2-vl-mini", n_captions=3, r2=0.4, seed=1
    )


@pytest.fixture
def cache(paths: tuple[Path, Path]) -> Path:
    return paths[0].parents[1]


def test_text_share_is_that_of_the_store(
    paths: tuple[Path, Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page("overview", cache, monkeypatch)
    score = open_store(paths[1]).concepts["modality_score"].to_numpy()
    share = np.mean(score[~np.isnan(score)] >= 0.65)  # as the words of a concept say it: above "both modalities"
    assert f"**{100 * share:.1f} %** of the live concepts of qwen2-vl-mini fire mainly on text (clip-mini:" in words(
        app
    )


def test_one_store_alone_needs_no_comparison(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("overview", cache, monkeypatch, stores="clip-mini")
    assert "of the live concepts of clip-mini fire mainly on text;" in words(app)
    assert "qwen2-vl-mini" not in words(app)


def test_a_language_model_that_was_trained_to_embed_is_shown_and_speaks_for_neither_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(tmp_path, backbone="clip-mini")
    make_store(tmp_path, backbone="qwen2-vl-contrastive-mini", seed=1)
    alone = words(open_page("overview", tmp_path, monkeypatch))
    assert "It takes a multimodal LLM and a contrastive model side by side." in alone
    assert "No result of a multimodal LLM for this task." in alone
    assert "of the live concepts of qwen2-vl-contrastive-mini fire mainly on text" in alone
    assert "multimodal LLM trained to embed" in alone
    make_store(tmp_path, backbone="qwen2-vl-mini", seed=2)
    three = words(open_page("overview", tmp_path, monkeypatch))
    assert "of the live concepts of qwen2-vl-mini fire mainly on text (qwen2-vl-contrastive-mini:" in three
    assert re.search(r"multimodal LLM [+-]\d+; contrastive [+-]\d+\.", three.replace("\\", ""))


def test_jaccard_follows_share_and_reduction(
    paths: tuple[Path, Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page("overview", cache, monkeypatch, stores="clip-mini", share="10", reduction="diagonal")
    table = open_store(paths[0]).concepts
    tops = {name: set(table[name].nlargest(3).index) for name in ("energy", "attribution", "bridge_diagonal")}

    def overlap(*names: str) -> float:
        sets = [tops[name] for name in names]
        return len(set.intersection(*sets)) / len(set.union(*sets))

    measured = app.dataframe[0].value
    assert measured["J(E, A)"].iloc[0] == pytest.approx(overlap("energy", "attribution"))
    assert measured["J(A, B)"].iloc[0] == pytest.approx(overlap("attribution", "bridge_diagonal"))
    assert measured["reduction"].iloc[0] == "diagonal"


def test_published_rows_stand_in_a_table_of_their_own(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("overview", cache, monkeypatch)
    measured, published = app.dataframe[0].value, app.dataframe[1].value
    assert len(published) == 6
    assert set(published["source"]) == {"paper, Table 1"}
    assert set(measured["model"]).isdisjoint(published["model"])


def test_removal_sentence_has_the_numbers_of_the_store(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = words(open_page("overview", cache, monkeypatch, task="t2i"))
    assert "**raises** R@10 of qwen2-vl-mini from 45.0 % to **50.0 %** (+5.0 points [+3.0, +7.0])" in text
    assert "whitening (ReAlign) gives **60.0 %**" in text


def test_poor_sae_is_warned_about(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("overview", cache, monkeypatch)
    assert ["qwen2-vl-mini" in warning.value and "40 %" in warning.value for warning in app.warning] == [True]


def test_demo_is_labelled(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "demo: small models" not in words(open_page("overview", cache, monkeypatch))
    make_store(tmp_path, demo=True)
    assert "demo: small models trained on EmojiScenes" in words(open_page("overview", tmp_path, monkeypatch))


def test_store_without_tasks_still_shows_the_other_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path, tasks=())
    text = words(open_page("overview", tmp_path, monkeypatch))
    assert "fire mainly on text" in text
    assert "None of these stores holds a retrieval task" in text


def test_a_cell_of_the_table_opens_the_concepts_behind_it(
    paths: tuple[Path, Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pages.components.overview import behind

    store = open_store(paths[0])
    tops = behind.top_sets(store, ("energy", "attribution"), 0.2, "max")
    for name, top in tops.items():
        assert top == set(store.concepts[name].nlargest(6).index)
    app = open_page("overview", cache, monkeypatch, stores="clip-mini", share="10")
    assert "Click a cell of J" in words(app)
    app.session_state["overview_jaccard"] = {"selection": {"rows": [], "columns": [], "cells": [(0, "J(E, A)")]}}
    app.run()
    assert not app.exception
    both = set.intersection(*behind.top_sets(store, ("energy", "attribution"), 0.1, "max").values())
    assert f"**In both: {len(both)}**" in words(app)


def test_token_level_stores_are_not_among_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path, n_pairs=6, pictures=False)
    make_store(tmp_path, n_pairs=6, pictures=False, backbone="qwen2-vl-mini", unit="token", seed=2)
    app = open_page("overview", tmp_path, monkeypatch)
    assert [value.split("/")[0] for value in app.pills(key="_pick_stores").value] == ["clip-mini"]


def test_of_too_many_models_those_of_the_papers_kinds_are_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"model-{number}" for number in range(7)]
    for number, name in enumerate(names):
        path = make_store(tmp_path, n_pairs=6, pictures=False, backbone=name, seed=number)
        if number == 2:
            config = open_store(path).config
            edit_manifest(
                path, config={**config, "backbone": {**config["backbone"], "contrastive": False, "pooling": "last"}}
            )
    app = open_page("overview", tmp_path, monkeypatch)
    shown = [value.split("/")[0] for value in app.pills(key="_pick_stores").value]
    assert shown == [name for name in names if name != "model-2"]


@pytest.mark.parametrize("n", [1, 8])
def test_one_to_eight_stores_stand_side_by_side(n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [make_store(tmp_path, n_pairs=6, pictures=False, seed=seed) for seed in range(n)]
    stores = ",".join(f"clip-mini/{path.name}" for path in paths)
    app = open_page("overview", tmp_path, monkeypatch, stores=stores)
    assert not app.error
    assert len(app.dataframe[0].value) == n
    assert len(app.pills(key="_pick_stores").value) == n


def test_the_model_card_states_the_modality_gap_from_a_bounded_draw(
    paths: tuple[Path, Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    class Rows:
        def __init__(self, rows: np.ndarray) -> None:
            self.rows = rows

        def __getitem__(self, wanted: np.ndarray) -> np.ndarray:
            read.append(len(wanted))
            return self.rows[wanted]

    monkeypatch.setattr(caching, "PAIRS_OF_GAP", 25)
    monkeypatch.setattr(Store, "mapped_embeddings", lambda self: Rows(self.embeddings()))
    caching.pair_gap.cache_clear()
    app = open_page("overview", cache, monkeypatch, stores="clip-mini")
    cells = [cell for table in app.table for cell in table.value.astype(str).to_numpy().ravel()]
    facts = " ".join(cells).replace("\\", "")  # as markdown shows it
    found = caching.pair_gap(open_store(paths[0]))
    assert read == [25, 25]  # of its 40 pairs, once: the second time it is kept
    assert f"{found.gap:.2f} (between halves of one modality {found.within:.2f})" in facts
    assert f"{found.unmatched:.2f}: {found.distance:.1f} standard deviations apart" in facts
    caching.pair_gap.cache_clear()
