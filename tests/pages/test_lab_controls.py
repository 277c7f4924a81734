"""What the Retrieval lab shows beside an intervention: controls of the whole, its parts, both models of a hybrid."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from streamlit.testing.v1 import AppTest

from analysis.cli import main as cli
from analysis.retrieval.evaluation.evaluate import evaluate
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.interventions import BASE, parse
from analysis.retrieval.task import RetrievalSpace, space_from_store
from analysis.store import open_store
from pages.components.lab import lab_view
from tests.pages.opening import open_page, sentences, two_models, values, words
from tests.synthetic_store import keep_untrained, make_store
from tests.wide import wide

REMOVAL = "removal:attribution,share=0.2"
HYBRID = "rerank:n=5,first=clip-mini"
ALONE = "fusion:weight=0,first=clip-mini"
WHY = "Why it works or not"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_models(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def spaces(cache: Path) -> tuple[RetrievalSpace, RetrievalSpace]:
    mine, other = (open_store(next((cache / name).iterdir())) for name in ("qwen2-vl-mini", "clip-mini"))
    return space_from_store(mine, "i2t"), space_from_store(other, "i2t")


def lab(cache: Path, monkeypatch: pytest.MonkeyPatch, method: str, **params: str) -> AppTest:
    return open_page(
        "retrieval_lab", cache, monkeypatch, store="qwen2-vl-mini", task="i2t", **{"method": method, **params}
    )


def printed(app: AppTest, part: str = "--k") -> dict:
    """What the command on the page prints."""
    command = next(code.value for code in app.code if "analysis retrieve" in code.value and part in code.value)
    done = CliRunner().invoke(cli, [*shlex.split(command)[3:], "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


@pytest.mark.parametrize(
    ("method", "beside"),
    [
        (f"{REMOVAL}+realign:alpha=0.3", ["removal:random,share=0.2,seeds=10+realign:alpha=0.3", REMOVAL, "realign:alpha=0.3"]),
        (f"{REMOVAL}+{HYBRID}", [f"removal:random,share=0.2,seeds=10+{HYBRID}", ALONE, REMOVAL, HYBRID]),
        (HYBRID, [ALONE]),
    ],
)  # fmt: skip
def test_the_control_has_the_other_steps_and_each_part_stands_alone(
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    spaces: tuple[RetrievalSpace, RetrievalSpace],
    method: str,
    beside: list[str],
) -> None:
    app = lab(cache, monkeypatch, method)
    assert sentences(app) == []
    shown = app.dataframe[0].value.set_index("method")
    table = wide(evaluate(spaces[0], [BASE, *(parse(m) for m in (method, *beside, "realign"))], first=spaces[1]))
    assert shown.index.tolist() == table["method"].tolist()
    for _, row in table.iterrows():
        assert shown.loc[row["method"], "R@5"].startswith(f"{100 * row['R@5']:.1f} ")
    rows = wide(pd.DataFrame(printed(app)["rows"]))
    assert rows["method"].tolist() == table["method"].tolist()
    assert rows["R@5"].tolist() == pytest.approx(table["R@5"].tolist())


def test_an_untrained_sae_stands_beside_a_removal_or_its_absence_is_said(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = lab(cache, monkeypatch, REMOVAL)
    assert "keeps no untrained SAE" in words(app)
    assert not app.dataframe[0].value["method"].str.startswith("untrained").any()
    path = keep_untrained(make_store(tmp_path, backbone="qwen2-vl-mini"))
    app = lab(tmp_path, monkeypatch, REMOVAL)
    shown = app.dataframe[0].value.set_index("method")
    assert "keeps no untrained SAE" not in words(app)
    control = parse("untrained:attribution,share=0.2")
    row = wide(evaluate(space_from_store(open_store(path), "i2t"), [control], ks=(5,))).iloc[0]
    assert shown.loc[control.label, "R@5"].startswith(f"{100 * row['R@5']:.1f} ")
    assert shown.index.tolist().index(control.label) == 3, "behind base, removal and its random control"


def test_the_range_of_the_seeds_is_the_same_in_table_bars_and_command(
    cache: Path, monkeypatch: pytest.MonkeyPatch, spaces: tuple[RetrievalSpace, RetrievalSpace]
) -> None:
    app = lab(cache, monkeypatch, REMOVAL, ks="5")
    control = parse("removal:random,share=0.2,seeds=10")
    row = wide(evaluate(spaces[0], [control], ks=(5,))).iloc[0]
    low, high = 100 * row["band@5_low"], 100 * row["band@5_high"]
    assert (low, high) != (100 * row["R@5_low"], 100 * row["R@5_high"])
    cell = f"{100 * row['R@5']:.1f} (seeds {low:.1f} to {high:.1f})"
    assert app.dataframe[0].value.set_index("method").loc[control.label, "R@5"] == cell
    chart = json.loads(next(c for c in app.get("plotly_chart") if c.proto.id.endswith("recall")).proto.spec)
    bar = chart["data"][0]
    place = bar["y"].index(control.label)
    value = values(bar["x"])[place]
    assert value + values(bar["error_x"]["array"])[place] == pytest.approx(high, abs=1e-4)
    assert value - values(bar["error_x"]["arrayminus"])[place] == pytest.approx(low, abs=1e-4)
    assert "the mean and the range of their seeds" in chart["layout"]["meta"]["caption"]
    command = next(code.value for code in app.code if "analysis retrieve" in code.value and "--k" in code.value)
    assert cell in CliRunner().invoke(cli, shlex.split(command)[3:]).output


def test_a_chain_is_measured_seed_by_seed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a slider that is moved meanwhile waits for one seed."""
    asked: list[str] = []
    measure = Lab.measure
    monkeypatch.setattr(Lab, "measure", lambda self, method: asked.append(method.spec) or measure(self, method))
    lab(cache, monkeypatch, "removal:energy,share=0.15+realign:alpha=0.6")
    chain = [spec for spec in asked if "random" in spec]
    assert len(chain) == 10
    assert all(len(parse(spec).seeds()) == 1 for spec in chain)
    assert asked.index("removal:energy,share=0.15+realign:alpha=0.6") < asked.index(chain[0])


def test_on_a_large_task_the_control_is_of_the_removal_alone_and_says_so(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = lab(cache, monkeypatch, f"{REMOVAL}+realign")
    assert "of the removal alone" not in words(small)
    monkeypatch.setattr(lab_view, "LARGE", 100)
    app = lab(cache, monkeypatch, f"{REMOVAL}+realign")
    assert "random concepts, 20 % (10 seeds)" in app.dataframe[0].value["method"].tolist()
    assert "the random control is of the removal alone" in words(app)


def test_every_control_has_the_other_steps_and_as_many_components(
    cache: Path, monkeypatch: pytest.MonkeyPatch, spaces: tuple[RetrievalSpace, RetrievalSpace]
) -> None:
    app = lab(cache, monkeypatch, f"{REMOVAL}+centring:joint")
    next(button for button in app.button if button.label == "Every control of this method").click().run()
    assert sentences(app) == []
    r = Lab(spaces[0]).projection(parse(REMOVAL).steps[0])[1]
    assert r > 2
    names = app.dataframe[0].value["method"].tolist()
    for spec in (f"pca:n={r}+centring:joint", f"pca:n={r},centred=true+centring:joint", "realign+centring:joint"):
        assert parse(spec).label in names
    assert {row["method"] for row in printed(app)["rows"]} == set(names)


@pytest.mark.parametrize("method", [HYBRID, f"{REMOVAL}+fusion:weight=0.4,first=clip-mini"])
def test_the_headline_of_a_hybrid_names_both_models(
    cache: Path, monkeypatch: pytest.MonkeyPatch, spaces: tuple[RetrievalSpace, RetrievalSpace], method: str
) -> None:
    app = lab(cache, monkeypatch, method, k="5")
    own = parse(method).without_hybrid()
    mine = evaluate(spaces[0], [parse(method), own], ks=(5,), first=spaces[1])["recall"]
    other = evaluate(spaces[1], [BASE], ks=(5,))["recall"].iloc[0]
    line = next(part for part in words(app).splitlines() if "Recall@5 of both" in part)
    assert [float(number) for number in re.findall(r"\*\*([\d.]+) %\*\*", line)] == pytest.approx(
        [100 * mine.iloc[0], 100 * mine.iloc[1], 100 * other], abs=0.0501
    )
    assert f"{'this model with the other steps' if own.steps else 'this model alone'} **" in line
    difference = 100 * (mine.iloc[0] - max(mine.iloc[1], other))
    assert f"To the better one {difference:+.1f}".replace("-", "\N{MINUS SIGN}") in line
    assert ("would do better by itself" in line) <= (difference < 0)


def test_the_other_model_alone_is_a_line_in_the_curve_of_a_hybrid(
    cache: Path, monkeypatch: pytest.MonkeyPatch, spaces: tuple[RetrievalSpace, RetrievalSpace]
) -> None:
    app = lab(cache, monkeypatch, HYBRID, curve="n", ks="5")
    chart = json.loads(next(c for c in app.get("plotly_chart") if "-curve-n" in c.proto.id).proto.spec)
    line = next(trace for trace in chart["data"] if trace.get("name") == "clip-mini alone")
    expected = evaluate(spaces[1], [BASE], ks=(5,))["recall"].iloc[0]
    assert values(line["y"]) == pytest.approx([100 * expected] * 2, abs=1e-4)


@pytest.mark.parametrize("method", ["rerank:n=5,first=nope", f"{REMOVAL}+fusion:weight=0.5,first=nope", "rerank:n=5"])
def test_a_missing_other_model_is_a_sentence_and_the_page_goes_on(
    cache: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    app = lab(cache, monkeypatch, method)
    said = "\n".join(sentences(app))
    assert "has no store here; expected clip-mini" in said
    assert "Showing the base" in said
    assert "Recall@10 of the base is" in words(app)
    assert printed(app)["rows"][0]["method"] == "base"
    other = next(select for select in app.selectbox if select.label == "Other model")
    other.set_value("clip-mini").run()
    assert sentences(app) == []
    assert "of both models together" in words(app)


def test_a_missing_other_model_of_an_added_row_leaves_the_row_out(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = lab(cache, monkeypatch, REMOVAL, also="rerank:n=5,first=nope;pca:n=2")
    assert "expected clip-mini" in "\n".join(sentences(app))
    assert "2 uncentred principal components out" in app.dataframe[0].value["method"].tolist()


@pytest.mark.parametrize("method", [HYBRID, "fusion:weight=0.4,first=clip-mini", "realign"])
def test_diagnostics_and_what_explains_the_change_are_what_the_command_prints(
    cache: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    app = lab(cache, monkeypatch, method, tab=WHY, k="1")
    assert sentences(app) == []
    found = printed(app, "--diagnose")
    row, text = found["diagnostics"][1], words(app)
    assert f"{100 * row['worst_hub_share']:.1f} % of all queries" in text
    assert found["what explains the change"][0]["sentence"] in text.replace("\\", "")
    worst = next(rows for name, rows in found.items() if name.startswith(f"worst hubs, {parse(method).label}:"))
    assert worst[0]["text"].split(" ")[-1] in text
    hybrid = parse(method).hybrid is not None
    assert ("A hybrid has no embeddings of its own" in text) == hybrid
    assert (row["effective_rank"] is None) == hybrid
    assert ("not defined after it. In a re-ranked list" in text) == (method == HYBRID)
    assert np.isfinite(row["hubness"])


def test_on_a_large_task_a_curve_of_many_measurements_waits_for_a_click(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.retrieval.evaluation.curves.LARGE", 100)
    app = lab(cache, monkeypatch, "realign")
    before = len(app.get("plotly_chart"))
    assert "every point of this curve is a measurement of its own" in words(app)
    next(button for button in app.button if button.label == "Measure the curve").click().run()
    assert sentences(app) == []
    assert len(app.get("plotly_chart")) == before + 1
    nested = lab(cache, monkeypatch, REMOVAL)
    assert "Measure the curve" not in [button.label for button in nested.button]
