"""The table of effects holds the numbers of `retrieve`, with intervals, and says why a method has none."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from analysis.cli import main
from analysis.report.effects import CHOSEN, effects, effects_markdown, pooled_stores
from analysis.retrieval.evaluation.evaluate import evaluate
from analysis.retrieval.interventions import parse
from analysis.retrieval.task import space_from_store
from analysis.store import open_store
from tests.synthetic_store import make_store


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    make_store(folder, backbone="qwen2-vl-mini", n_pairs=20)
    make_store(folder, backbone="clip-mini", n_pairs=20, width=40)
    make_store(folder, backbone="clip-mini", n_pairs=20, unit="token", seed=1)
    return folder


@pytest.fixture(scope="module")
def stores(cache):
    return {store.backbone: store for store in pooled_stores(cache)}


def test_only_stores_of_pooled_embeddings_count(stores):
    assert sorted(stores) == ["clip-mini", "qwen2-vl-mini"]
    assert {store.config["sae"]["unit"] for store in stores.values()} == {"pooled"}


def test_rows_are_those_of_evaluate(stores):
    store, partner = stores["qwen2-vl-mini"], stores["clip-mini"]
    table = effects(store, "i2t", ks=(1, 5), partner=partner)
    answered = table["problem"] == ""
    assert answered[~table["spec"].str.startswith("untrained")].all()  # these stores were made without that SAE
    space, first = (space_from_store(item, "i2t") for item in (store, partner))
    for spec in ("base", "removal:energy,share=0.01", "realign:alpha=0.3", "rerank:n=10,first=clip-mini"):
        expected = evaluate(space, [parse(spec)], ks=(1, 5), first=first).iloc[1]
        row = table[(table["spec"] == spec) & (table["k"] == 5)].iloc[0]
        assert row["recall"] == pytest.approx(expected["recall"])
        assert (row["low"], row["high"]) == pytest.approx((expected["low"], expected["high"]))
        assert row["difference_high"] == pytest.approx(expected["difference_high"])
    chosen = table[(table["method"] == CHOSEN) & (table["k"] == 1)].iloc[0]
    assert chosen["queries"] == 10  # the half that did not choose


def test_markdown_has_a_line_a_method_and_a_column_a_task(stores):
    store = stores["qwen2-vl-mini"]
    text = effects_markdown([store], ks=(1,), partners=list(stores.values()), say=lambda _: None)
    lines = text.splitlines()
    assert lines[0] == f"**{store.label}, R@1**"
    assert lines[2] == "| method | i2t | t2i |"
    base = evaluate(space_from_store(store, "i2t"), [parse("base")], ks=(1,)).iloc[0]
    low, high = 100 * base["low"], 100 * base["high"]
    assert lines[4].startswith(f"| base | {100 * base['recall']:.1f} [{low:.1f}, {high:.1f}] |")
    random = next(line for line in lines if line.startswith("| random concepts"))
    assert " to " in random
    rows = [line for line in lines if line.startswith("|")]
    assert all(line.count("|") == 4 for line in rows)
    assert all("untrained" in line for line in lines[2:] if line and line not in rows)


def test_a_method_without_an_answer_is_a_sentence_below_the_table(tmp_path):
    store = open_store(make_store(tmp_path, n_concepts=32, width=32, n_pairs=6))
    table = effects(store, "t2i", ks=(1,))
    text = effects_markdown([store], tasks=("t2i",), ks=(1,), say=lambda _: None)
    problems = table[table["problem"] != ""]
    assert np.isnan(problems["recall"]).all()
    for row in problems.itertuples():
        assert f"`{row.spec}` on t2i: {row.problem}" in text


def test_the_command_prints_the_tables(cache, stores):
    done = CliRunner().invoke(main, ["effects", "--cache", str(cache), "--tasks", "t2i", "--k", "1"])
    assert done.exit_code == 0, done.output
    expected = effects_markdown(list(stores.values()), tasks=("t2i",), ks=(1,), say=lambda _: None)
    assert expected in done.output
