"""The Retrieval lab on a small store: what it shows is what library and command compute, and nonsense is a sentence."""

from __future__ import annotations

import base64
import json
import re
import shlex
from pathlib import Path
from urllib.parse import parse_qs

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Block, ButtonGroup, Selectbox, Slider, TextInput

from analysis.cli import main as cli
from analysis.figures.style import score
from analysis.retrieval.evaluation.evaluate import evaluate
from analysis.retrieval.interventions import BASE, Edit, parse
from analysis.retrieval.interventions.fitting import fit
from analysis.retrieval.interventions.settings import settings_of
from analysis.retrieval.task import RetrievalSpace, space_from_store
from analysis.store import Store, open_store
from pages.components.lab import query_lists
from pages.components.shared import caching, method_fields, state
from tests.pages.opening import ranked, two_models, values
from tests.synthetic_store import make_store
from tests.wide import wide

PAGE = Path(__file__).parents[2] / "pages/retrieval_lab.py"
METHOD = "removal:attribution,share=0.2"
QUERIES = "Query by query"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_models(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def store(cache: Path) -> Store:
    return open_store(next((cache / "qwen2-vl-mini").iterdir()))


@pytest.fixture(scope="module")
def space(store: Store) -> RetrievalSpace:
    return space_from_store(store, "i2t")


def run(cache: Path, monkeypatch: pytest.MonkeyPatch, **params: str) -> AppTest:
    monkeypatch.setenv("RETRIEVALLENS_CACHE", str(cache))
    app = AppTest.from_file(PAGE, default_timeout=120)
    for key, value in {"store": "qwen2-vl-mini", "task": "i2t", "method": METHOD, **params}.items():
        app.query_params[key] = value
    return app.run()


def test_what_was_measured_once_is_shown_again_without_the_task_in_memory(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(cache, monkeypatch)
    assert not said(first)
    caching._small_lab.cache_clear()  # as when visitors have opened many other tasks since

    def again(*task: object) -> None:
        raise AssertionError(f"{task} is compared once more")

    monkeypatch.setattr(caching, "_new_lab", again)
    second = run(cache, monkeypatch)
    assert not said(second)
    assert words(second) == words(first)


def said(app: AppTest) -> str:
    """Everything that is said to be wrong; a traceback would be an exception element."""
    assert not app.exception
    return "\n".join(element.value for element in (*app.error, *app.warning))


def words(app: AppTest) -> str:
    return "\n".join(str(element.value) for element in (*app.markdown, *app.caption, *app.info))


def invoke(command: str) -> str:
    """What a command that the page shows prints as JSON."""
    done = CliRunner().invoke(cli, [*shlex.split(command)[3:], "--json"])
    assert done.exit_code == 0, done.output
    return done.output


def address(app: AppTest, key: str) -> str:
    value = app.query_params[key]
    return value if isinstance(value, str) else value[0]


def test_page_runs_alone_and_says_what_it_is_about(cache: Path, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    app = run(cache, monkeypatch)
    assert said(app) == ""
    assert "helps" in app.title[0].value
    task = store.task("i2t")
    assert f"**{len(task.query_rows)}** queries, **{len(task.candidate_rows)}** candidates" in words(app)


def test_the_table_is_that_of_evaluate(cache: Path, monkeypatch: pytest.MonkeyPatch, space: RetrievalSpace) -> None:
    app = run(cache, monkeypatch, also="realign:alpha=0.3;pca:n=2;centring:side;rerank:n=5,first=clip-mini")
    assert said(app) == ""
    shown: pd.DataFrame = app.dataframe[0].value.set_index("method")
    other = space_from_store(open_store(next((cache / "clip-mini").iterdir())), "i2t")
    methods = [BASE, *(parse(m) for m in (METHOD, "removal:random,share=0.2,seeds=10", "realign", "realign:alpha=0.3"))]
    methods += [parse(m) for m in ("pca:n=2", "centring:side", "rerank:n=5,first=clip-mini")]
    methods += [parse("fusion:weight=0,first=clip-mini")]  # the other model alone beside the hybrid
    table = wide(evaluate(space, methods, first=other)).set_index("method")
    assert shown.index.tolist() == table.index.tolist()
    for method, row in table.iterrows():
        for k in (1, 5, 10):
            assert shown.loc[method, f"R@{k}"].startswith(f"{100 * row[f'R@{k}']:.1f} ")
            change = f"{100 * row[f'difference@{k}']:+.1f}".replace("-", "\N{MINUS SIGN}")
            assert shown.loc[method, f"change@{k}"].startswith(change)
    low, high = (100 * table.loc["base", f"R@1_{end}"] for end in ("low", "high"))
    assert shown.loc["base", "R@1"].endswith(f"[{low:.1f}, {high:.1f}]")


def test_the_command_of_the_page_prints_the_same_numbers(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(cache, monkeypatch, ks="1", also="fusion:weight=0.5,first=clip-mini", definition="fraction")
    command = next(code.value for code in app.code if "analysis retrieve" in code.value and "--query" not in code.value)
    done = CliRunner().invoke(cli, [*shlex.split(command)[3:], "--json"])
    assert done.exit_code == 0, done.output
    assert "--definition fraction" in command
    assert (address(app, "definition"), said(app)) == ("fraction", "")
    rows = wide(pd.DataFrame(json.loads(done.output)["rows"])).set_index("method").to_dict("index")
    shown = app.dataframe[0].value.set_index("method")
    assert set(shown.index) == set(rows)
    for method, row in rows.items():
        assert shown.loc[method, "R@1"].startswith(f"{100 * row['R@1']:.1f} ")


def dense_order(space: RetrievalSpace, method: str, query: int) -> tuple[np.ndarray, np.ndarray]:
    """(candidates best first, similarity of each candidate) of one query, from the whole matrix."""
    fitted = fit(parse(method), space)
    similarity = np.round(fitted.candidates @ fitted.queries[query], 12)
    return np.argsort(-similarity, kind="stable"), similarity


@pytest.mark.parametrize("query", range(4, 10))
@pytest.mark.parametrize("method", [METHOD, "realign", "rerank:n=5,first=clip-mini"])
def test_both_lists_of_a_query_are_the_librarys_and_the_commands(
    cache: Path, monkeypatch: pytest.MonkeyPatch, space: RetrievalSpace, store: Store, query: int, method: str
) -> None:
    app = run(cache, monkeypatch, tab=QUERIES, query=str(query), changed="all", method=method)
    assert said(app) == ""
    command = next(code.value for code in app.code if f"--query {query}" in code.value and "--why" not in code.value)
    told = json.loads(invoke(command))
    targets = {row["candidate"]: row for row in told["targets"]}
    assert set(targets) == set(space.qrels[[query]].indices.tolist())
    best = [min(targets.values(), key=lambda row, side=side: row[f"rank_{side}"]) for side in ("before", "after")]
    for side, other, shown in zip(("before", "after"), ("after", "before"), ranked(app), strict=True):
        expected = [(row["rank"], row["text"], row["score"], row["other_rank"], row["target"]) for row in told[side]]
        behind = {row["candidate"]: row for row in best if row[f"rank_{side}"] > 10}
        expected += sorted(
            (row[f"rank_{side}"], row["text"], row[f"score_{side}"], row[f"rank_{other}"], True)
            for row in behind.values()
        )
        assert len(shown) == len(expected) >= 10
        for line, (rank, text, similarity, other_rank, is_target) in zip(shown, expected, strict=True):
            assert line.startswith(f"**{rank}**")
            assert text in line
            assert f"{round(similarity, 3) + 0.0:.3f}".replace("-", "\N{MINUS SIGN}") in line
            assert ("target" in line) == is_target
            assert str(other_rank) in line or other_rank == rank
        if "rerank" not in method or side == "before":
            order, similarity = dense_order(space, "base" if side == "before" else method, query)
            assert [row["candidate"] for row in told[side]] == order[:10].tolist()
            for candidate, row in targets.items():
                assert row[f"rank_{side}"] == 1 + order.tolist().index(candidate)
                assert row[f"score_{side}"] == pytest.approx(similarity[candidate], abs=1e-5)


def beside(node: Block) -> list[tuple[str, str]]:
    """(picture, line) of every ranked row that has a picture."""
    children = list(getattr(node, "children", {}).values())
    if [child.type for child in children] == ["image", "markdown"] and "\u2002" in children[1].value:
        return [(children[0].proto.imgs[0].url, children[1].value)]
    return [row for child in children for row in beside(child)]


def test_a_caption_in_a_list_stands_beside_the_picture_that_it_describes(
    cache: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    app = run(cache, monkeypatch, tab=QUERIES, query="7", changed="all")
    assert words(app).count("Beside each caption: the picture that it describes.") == 1
    samples, rows = store.samples, beside(app.main)
    own = samples[samples["modality"] == "image"].reset_index().set_index("pair_id")["index"]
    assert len(rows) == sum(map(len, ranked(app))) >= 20
    for url, line in rows:
        described = {
            int(own[pair])
            for text, pair in zip(samples["text"], samples["pair_id"], strict=True)
            if text and text in line
        }
        assert base64.b64decode(url.split(",")[1]) in {store.thumb_path(row).read_bytes() for row in described}


def test_what_became_of_a_query_is_said_with_the_ranks_of_the_list(
    cache: Path, monkeypatch: pytest.MonkeyPatch, space: RetrievalSpace
) -> None:
    """The best target before need not be the best one after."""
    method, best = parse("pca:n=6"), {}
    for name, intervention in (("before", BASE), ("after", method)):
        fitted = fit(intervention, space)
        order = np.argsort(-np.round(fitted.queries @ fitted.candidates.T, 12), axis=1, kind="stable")
        place = np.argsort(order, axis=1)
        ranks = [place[q][space.qrels[[q]].indices] + 1 for q in range(space.n_queries)]
        best[name] = [(int(part.min()), int(part.argmin())) for part in ranks]
    query = next(q for q in range(space.n_queries) if best["before"][q][1] != best["after"][q][1])
    app = run(cache, monkeypatch, tab=QUERIES, query=str(query), changed="all", method=method.spec)
    before, after = (best[name][query][0] for name in ("before", "after"))
    assert f"The best target stands at rank **{before}** before and **{after}** after" in words(app)
    first, last = (space.qrels[[query]].indices[best[name][query][1]] for name in ("before", "after"))
    later, earlier = (
        1 + dense_order(space, spec, query)[0].tolist().index(candidate)
        for spec, candidate in ((method.spec, first), ("base", last))
    )
    assert f"another target: the one at {before} goes to {later}, the one at {after} comes from {earlier})" in words(
        app
    )
    row = app.dataframe[0].value.set_index("query").loc[query]
    assert row["rank"].startswith(f"{before} → {after}")


def test_a_query_without_a_direction_is_a_miss_and_said_so(
    cache: Path, monkeypatch: pytest.MonkeyPatch, store: Store, space: RetrievalSpace
) -> None:
    live = np.flatnonzero(store.concepts["energy"].to_numpy() > 0)
    fired = set(space.codes("queries", "mean").indices[11].tolist())
    silent = "edit:" + ",".join(f"{concept}=0" for concept in live if concept in fired) + "+codes:equal"
    fitted = fit(parse(silent), space)
    assert fitted.void_queries[11]
    app = run(cache, monkeypatch, tab=QUERIES, query="11", changed="all", method=silent)
    assert said(app) == ""
    assert "Nothing is left of this query" in words(app)
    table = run(cache, monkeypatch, method=silent).dataframe[0].value.set_index("method")
    assert table.loc[parse(silent).label, "without direction"] == fitted.void_queries.sum()


def test_the_pool_is_a_control_and_its_numbers_are_the_commands(
    cache: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    app = run(cache, monkeypatch, pool="global", also="pca:n=2")
    assert said(app) == ""
    everything = space_from_store(store, "i2t", "global")
    assert f"**{everything.n_candidates}** candidates (global pool: 80 texts, 40 images; 40 queries are" in words(app)
    command = next(code.value for code in app.code if "analysis retrieve" in code.value and "--query" not in code.value)
    assert "--pool global" in command
    rows = wide(pd.DataFrame(json.loads(invoke(command))["rows"])).set_index("method").to_dict("index")
    shown = app.dataframe[0].value.set_index("method")
    assert set(shown.index) == set(rows)
    local = run(cache, monkeypatch, also="pca:n=2").dataframe[0].value.set_index("method")
    assert shown["R@5"].tolist() != local["R@5"].tolist()
    for method, row in rows.items():
        for k in (1, 5, 10):
            assert float(shown.loc[method, f"R@{k}"].split()[0]) == pytest.approx(100 * row[f"R@{k}"], abs=0.0501)


@pytest.mark.parametrize(
    ("curve", "method"),
    [("r", METHOD), ("share", METHOD), ("alpha", "realign:alpha=0.3,statistics=joint"), ("r", f"{METHOD}+realign"),
     ("n", "rerank:n=5,first=clip-mini"), ("weight", "fusion:weight=0.3,first=clip-mini")],
)  # fmt: skip
def test_the_curve_is_what_its_command_prints(
    cache: Path, monkeypatch: pytest.MonkeyPatch, curve: str, method: str
) -> None:
    app = run(cache, monkeypatch, curve=curve, method=method, ks="5")
    assert said(app) == ""
    command = next(code.value for code in app.code if f"--curve {curve}" in code.value)
    printed = json.loads(invoke(command))
    chart = json.loads(next(c for c in app.get("plotly_chart") if f"-curve-{curve}" in c.proto.id).proto.spec)
    lines = {trace["name"]: trace for trace in chart["data"] if "lines" in trace.get("mode", "") and trace.get("name")}
    assert len(printed) - ("r chosen" in " ".join(printed)) >= 1
    for name, rows in printed.items():
        if name.startswith("level lines"):
            for row in rows:
                assert values(lines[row["method"]]["y"]) == pytest.approx([100 * row["recall"]] * 2, abs=1e-4)
            continue
        if name.startswith("r chosen"):
            row = rows[0]
            said_of_it = next(part.value for part in app.markdown if "r chosen on one half" in part.value)
            for half in ("where_chosen", "base_where_chosen", "reported", "base"):
                assert f"{100 * row[half]:.1f} %" in said_of_it
            continue
        drawn = lines[name]
        assert values(drawn["y"]) == pytest.approx([100 * row["recall"] for row in rows], abs=1e-4)
        unit = 100 if curve == "share" else 1
        assert values(drawn["x"]) == pytest.approx([unit * row["x"] for row in rows], rel=1e-5)


def test_diagnostics_and_hubs_are_what_their_command_prints(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(cache, monkeypatch, tab="Why it works or not", method="realign")
    command = next(code.value for code in app.code if "--diagnose" in code.value)
    printed = json.loads(invoke(command))
    base, after = printed["diagnostics"]
    for name, words_for in (
        ("hubness", "Hubs"), ("effective_rank", "Effective rank"), ("margin_in_spreads", "Margin"), ("margin", "Margin"),
    ):  # fmt: skip
        line = next(part for part in words(app).splitlines() if part.startswith(f"- **{words_for}**"))
        assert f"{score(base[name])} → {score(after[name])}".replace("-", "\N{MINUS SIGN}") in line
    assert printed["what explains the change"][0]["sentence"] in words(app)
    worst = next(rows for name, rows in printed.items() if name.startswith("worst hubs, base"))
    assert f"in the top 10 of {100 * worst[0]['share']:.1f} % of all queries" in words(app)
    assert worst[0]["text"].split(" ")[-1] in words(app)


def test_the_bars_of_the_why_panel_are_what_their_command_prints(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(cache, monkeypatch, tab=QUERIES, query="7", changed="all", why="before")
    command = next(code.value for code in app.code if "--why before" in code.value)
    pairs, rows = json.loads(invoke(command)).values()
    chart = json.loads(next(c for c in app.get("plotly_chart") if "-why-7" in c.proto.id).proto.spec)
    given = {row["concept"]: row["target"] for row in rows}
    bars = next(trace for trace in chart["data"] if trace["name"].startswith("target"))
    concepts, drawn = [int(i) for i in values(bars["customdata"])], values(bars["x"])
    for concept, bar in zip(concepts, drawn, strict=True):
        if concept >= 0:
            assert bar == pytest.approx(given[concept], abs=1e-6)
    assert concepts[-2:] == [-1, -1]  # the other concepts, and what is not explained
    assert drawn[-1] == pytest.approx(given[-1], abs=1e-6)
    assert sum(drawn) == pytest.approx(pairs[0]["similarity"], abs=1e-6)
    assert bars["name"].endswith(score(pairs[0]["similarity"]))


def test_what_changed_is_what_its_command_prints(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(cache, monkeypatch, tab=QUERIES, query="7", changed="all", method="realign")
    command = next(code.value for code in app.code if "--why change" in code.value)
    told, rows = list(json.loads(invoke(command)).values())[:2]
    chart = json.loads(next(c for c in app.get("plotly_chart") if "-why-7-change" in c.proto.id).proto.spec)
    bars = chart["data"][0]
    drawn, ids = values(bars["x"]), [int(i) for i in values(bars["customdata"])]
    assert drawn[0] == pytest.approx(sum(row["before"] for row in rows), abs=1e-6)
    assert drawn[-1] == pytest.approx(sum(row["after"] for row in rows), abs=1e-6)
    assert sum(drawn[:-1]) == pytest.approx(drawn[-1], abs=1e-6)
    given = {row["concept"]: row["change"] for row in rows}
    assert [given[i] for i in ids if i >= 0] == pytest.approx(
        [x for i, x in zip(ids, drawn, strict=True) if i >= 0], abs=1e-6
    )
    assert "not explained by the SAE" in bars["y"]
    assert told[0]["what changed"] in words(app)


def test_counts_on_the_filters_are_those_of_the_ranks(
    cache: Path, monkeypatch: pytest.MonkeyPatch, space: RetrievalSpace
) -> None:
    app = run(cache, monkeypatch, tab=QUERIES, k="1")
    best = {}
    for name, method in (("before", BASE), ("after", parse(METHOD))):
        fitted = fit(method, space)
        similarity = np.round(fitted.queries @ fitted.candidates.T, 12)
        order = np.argsort(-similarity, axis=1, kind="stable")
        hit = np.take_along_axis(space.qrels.toarray() > 0, order, axis=1)
        best[name] = hit.argmax(axis=1) + 1
    pills = next(group for group in app.pills if group.key == "_lab_changed")
    options = " ".join(getattr(option, "content", option) for option in pills.options)
    rescued = int(((best["before"] > 1) & (best["after"] <= 1)).sum())
    lost = int(((best["before"] <= 1) & (best["after"] > 1)).sum())
    assert f"rescued {rescued}" in options
    assert f"lost {lost}" in options


def r_slider(app: AppTest) -> Slider:
    return next(slider for slider in app.slider if slider.label.startswith("r, of"))


def test_the_r_slider_writes_the_address_and_changes_the_numbers(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(cache, monkeypatch)
    slider = next(slider for slider in app.slider if slider.label.startswith("r, of"))
    slider.set_value(2).run()
    assert said(app) == ""
    assert address(app, "method") == f"{METHOD},r=2"
    assert "r = 2" in words(app)


def test_the_query_in_view_stays_while_the_method_changes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(cache, monkeypatch, tab=QUERIES, k="1", method="removal:energy,share=0.2")
    seen = []
    for act in (
        lambda: next(slider for slider in app.slider if slider.label.startswith("r, of")).set_value(1),
        lambda: next(button for button in app.button if button.label == "Remove just it").click(),
        lambda: next(group for group in app.pills if group.key == "_lab_changed").set_value("all"),
    ):
        seen.append(next(line for line in words(app).splitlines() if line.startswith("**Query ")))
        act().run()
        assert said(app) == ""
    assert seen[0] == seen[1] == seen[2]
    assert "**Query 0**" in words(app)  # another filter: the first of its list


def link(app: AppTest) -> dict[str, str | list[str]]:
    """Parameters of the address that the page offers to copy; those that stand in it several times as lists."""
    found = next(code.value for code in app.code if "store=" in code.value and "?" in code.value)
    held = parse_qs(found.partition("?")[2])
    return {key: values if len(values) > 1 else values[0] for key, values in held.items()}


def test_the_link_opens_the_query_in_view_though_nobody_chose_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(cache, monkeypatch, tab=QUERIES, k="1", method="removal:energy,share=0.2")
    seen = next(line for line in words(app).splitlines() if line.startswith("**Query "))
    r_slider(app).set_value(1).run()
    shared = link(app)
    assert "query" not in app.query_params  # the filter may still choose another one
    assert f"**Query {shared['query']}**" in seen
    again = run(cache, monkeypatch, **shared)
    assert seen in words(again)
    assert ranked(again) == ranked(app)
    assert link(again) == shared
    elsewhere = run(
        cache, monkeypatch, **{key: value for key, value in shared.items() if key not in ("query", "changed")}
    )
    assert seen not in words(elsewhere)


def listed(app: AppTest) -> list[int]:
    return app.dataframe[0].value["query"].tolist() if len(app.dataframe) else []


def find(app: AppTest) -> TextInput:
    return next(field for field in app.text_input if field.label == "Find")


@pytest.mark.parametrize("task", ["i2t", "t2i"])
def test_queries_are_found_by_their_words_or_their_pictures_caption(
    cache: Path, monkeypatch: pytest.MonkeyPatch, store: Store, task: str
) -> None:
    app = run(cache, monkeypatch, tab=QUERIES, task=task, changed="all")
    samples = store.samples
    captions = samples[samples["modality"] == "text"].drop_duplicates("pair_id").set_index("pair_id")["text"]
    rows = store.task(task).query_rows
    texts = [samples["text"].iat[row] or captions[samples["pair_id"].iat[row]] for row in rows]
    expected = [query for query, text in enumerate(texts) if "dog" in text and "crimson" in text]
    assert 0 < len(expected) < len(texts) / 4
    find(app).set_value("Dog crimson").run()
    assert (said(app), listed(app)) == ("", expected)
    assert listed(run(cache, monkeypatch, tab=QUERIES, task=task, changed="all", find="crimson dog")) == expected
    find(app).set_value("zebra").run()
    assert (said(app), listed(app)) == ("", [])
    assert "No query of this list has \u201czebra\u201d" in words(app)


def test_a_number_opens_its_query_and_its_page(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_lists, "PAGE", 10)
    app = run(cache, monkeypatch, tab=QUERIES, changed="all")
    assert listed(app) == list(range(10))
    find(app).set_value("27").run()
    assert (said(app), address(app, "query")) == ("", "27")
    assert "**Query 27**" in words(app)
    assert listed(app) == list(range(20, 30))
    next(field for field in app.number_input if field.label == "Page, of 4").set_value(4).run()
    assert listed(app) == list(range(30, 40))
    assert "**Query 27**" in words(app)
    find(app).set_value("40").run()
    assert "expected 0 to 39" in said(app)
    assert address(app, "query") == "27"


def test_a_method_is_chosen_and_a_further_step_is_added_on_purpose(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = run(cache, monkeypatch)
    chips = app.selectbox(key="_lab_method_chosen")
    chips.set_value("realign").run()
    assert address(app, "method") == "realign:alpha=0.1"
    assert words(app).count("ReAlign α = 0.1: Recall@10") == 1
    app.selectbox(key="_lab_method_then").set_value("removal").run()
    assert address(app, "method") == "realign:alpha=0.1+removal:attribution,share=0.01"
    assert r"ReAlign α = 0.1 \+ removal by attribution, top 1 %: Recall@10" in words(app)
    next(button for button in app.button if button.key == "_lab_method_away_1").click().run()
    assert address(app, "method") == "realign:alpha=0.1"
    chips = app.selectbox(key="_lab_method_chosen")
    chips.set_value("base").run()
    assert said(app) == ""
    assert address(app, "method") == "base"
    assert "Choose a method" in words(app)


def test_a_text_field_that_was_opened_before_undoes_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser keeps sending the field of "As text" with the value that it had when the popover was closed."""
    app = run(cache, monkeypatch)
    opened = next(field for field in app.text_input if field.label.startswith("The same as text"))._widget_state
    for step, expected in (
        ("realign", f"{METHOD}+realign:alpha=0.1"),
        ("pca", f"{METHOD}+realign:alpha=0.1+pca:n=2"),
    ):
        app.selectbox(key="_lab_method_then").set_value(step)
        states = app._tree.get_widget_states()
        kept = [state for state in states.widgets if state.id != opened.id]
        del states.widgets[:]
        states.widgets.extend([*kept, opened])
        app._run(states)
        assert said(app) == ""
        assert address(app, "method") == expected


def test_a_method_can_be_typed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(cache, monkeypatch)
    next(field for field in app.text_input if field.label.startswith("The same as text")).set_value("pca:n=3").run()
    assert (said(app), address(app, "method")) == ("", "pca:n=3")
    next(field for field in app.text_input if field.label.startswith("The same as text")).set_value("pca:n=x").run()
    assert "cannot be read as a method" in said(app)
    assert address(app, "method") == "pca:n=3"


def concept_list(app: AppTest, label: str) -> Selectbox:
    """Where a concept is added."""
    return next(box for box in app.selectbox if box.label == label)


def typed(app: AppTest, text: str) -> Selectbox:
    """What is no entry of the list is typed into it."""
    box = concept_list(app, "Concepts")
    box.options.append(text)
    return box.set_value(text)


def picked(app: AppTest, label: str) -> ButtonGroup:
    """The concepts chosen so far."""
    return next(group for group in app.pills if group.label == f"{label}, chosen")


def test_hand_picked_concepts_are_found_by_number_and_name(
    cache: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    app = run(cache, monkeypatch, method="removal:concepts=5")
    box = concept_list(app, "Concepts")
    names = store.concepts["name"].to_numpy()
    assert box.options == [f"{i} · {name}" if name else str(i) for i, name in enumerate(names) if i != 5]
    assert names[5]
    box.set_value(9).run()
    assert (said(app), address(app, "method")) == ("", "removal:concepts=5,9")
    assert concept_list(app, "Concepts").value is None
    assert picked(app, "Concepts").value == [5, 9]
    picked(app, "Concepts").set_value([9]).run()
    assert address(app, "method") == "removal:concepts=9"
    picked(app, "Concepts").set_value([]).run()
    assert "switch it off to take none" in said(app)
    assert address(app, "method") == "removal:concepts=9"


def test_a_typed_word_is_the_concept_that_bears_it(cache: Path, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    names = [str(name or "") for name in store.concepts["name"]]
    bearing = {word: [i for i, name in enumerate(names) if word in name] for word in " ".join(names).split()}
    alone = next(word for word, found in bearing.items() if len(found) == 1 and found != [5])
    shared = next((word for word, found in bearing.items() if len(found) > 1), None)
    app = run(cache, monkeypatch, method="removal:concepts=5")
    typed(app, alone).run()
    assert (said(app), address(app, "method")) == ("", f"removal:concepts=5,{bearing[alone][0]}")
    app = run(cache, monkeypatch, method="removal:concepts=5")
    typed(app, shared or "no such word").run()
    assert ("choose one of them" if shared else "is no concept") in said(app)
    assert address(app, "method") == "removal:concepts=5"


def test_a_typed_number_is_that_concept_whatever_names_hold(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = caching.concept_names
    monkeypatch.setattr(
        caching, "concept_names", lambda store, concepts: ["route 7", *names(store, list(concepts)[1:])]
    )
    app = run(cache, monkeypatch, method="removal:concepts=5")
    typed(app, "7").run()
    assert (said(app), address(app, "method")) == ("", "removal:concepts=5,7")


def test_concepts_are_scaled_by_name_with_a_factor_each(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(cache, monkeypatch, method="edit:5=2")
    concept_list(app, "Scale concepts").set_value(9).run()
    assert (said(app), address(app, "method")) == ("", "edit:5=2,9=0")
    next(field for field in app.number_input if field.label == "9 ×").set_value(0.5).run()
    assert (said(app), address(app, "method")) == ("", "edit:5=2,9=0.5")
    assert "5 × 2, 9 × 0.5" in words(app)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ([5, "7, 9"], ((5, 2.0), (7, 0.0), (9, 0.0))),
        ([5, "12=0.5 99=3"], ((5, 2.0), (12, 0.5), (99, 3.0))),
        (["5=1.5"], ((5, 1.5),)),
        ([5, "dog"], None),
        ([], None),
    ],
)
def test_numbers_can_be_typed_into_the_list(
    monkeypatch: pytest.MonkeyPatch, typed: list[int | str], expected: tuple | None
) -> None:
    told, notices = [], []
    monkeypatch.setattr(state, "notice", notices.append)
    asked = {}
    monkeypatch.setattr(method_fields, "picker", lambda *given, help: asked.update(then=given[4]))
    setting = settings_of(Edit)["scales"]
    monkeypatch.setattr(method_fields, "FACTORS", 0)  # no field of its own for a factor
    method_fields._scales(None, setting, "key", ((5, 2.0),), told.append)
    asked["then"]([*typed])
    assert told == ([expected] if expected else [()] if not typed else [])
    assert len(notices) == (typed == [5, "dog"])
    told.clear(), notices.clear()
    method_fields._concepts(None, setting, "key", (), told.append)
    asked["then"]([entry for entry in typed if "=" not in str(entry)])
    if typed == [5, "7, 9"]:
        assert told == [(5, 7, 9)]
    assert len(told) + len(notices) == 1


@pytest.mark.parametrize("chip", ["realign", "centring", "pca", "pool", "edit", "codes", "hybrid"])
def test_every_chip_gives_a_method_that_is_measured(cache: Path, monkeypatch: pytest.MonkeyPatch, chip: str) -> None:
    app = run(cache, monkeypatch, method="base")
    app.selectbox(key="_lab_method_chosen").set_value(chip).run()
    assert said(app) == ""
    start = "of both models together is" if chip == "hybrid" else r"goes from \*\*[\d.]+ %\*\* to"
    assert re.search(rf"Recall@10 {start} \*\*[\d.]+ %\*\*", words(app))


def test_no_chip_without_an_effect(cache: Path, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    """A dual encoder has one pooling: nothing to mask."""
    monkeypatch.setattr(Store, "variants", ("mean",))
    caching._open.cache_clear()  # a store that is open knows its own
    app = run(cache, monkeypatch)
    assert said(app) == ""
    offered = app.selectbox(key="_lab_method_chosen").options
    assert not any("Masks" in str(getattr(option, "content", option)) for option in offered)
    assert any("Removal" in str(getattr(option, "content", option)) for option in offered)


def test_removing_just_one_concept_from_the_why_panel(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(cache, monkeypatch, tab=QUERIES, query="3", changed="all")
    next(button for button in app.button if button.label == "Remove just it").click().run()
    assert said(app) == ""
    assert re.fullmatch(r"removal:concepts=\d+", address(app, "method"))


def why_chart(app: AppTest) -> dict[str, dict[str, list[float]]]:
    """Name of a bar trace, without its sum -> label -> value."""
    chart = json.loads(next(c for c in app.get("plotly_chart") if "-why-" in c.proto.id).proto.spec)
    return {
        trace["name"].split(":")[0]: dict(zip(trace["y"], values(trace["x"]), strict=True))
        for trace in chart["data"][:3]
    }


def test_the_list_after_whitening_is_explained_as_its_command_prints(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = run(cache, monkeypatch, tab=QUERIES, method="realign", query="3", changed="all")
    group = next(group for group in app.get("button_group") if group.key == "_lab_explain")
    group.set_value("after").run()
    assert address(app, "why") == "after"
    command = next(code.value for code in app.code if "--why after" in code.value)
    pairs, rows = json.loads(invoke(command)).values()
    drawn = why_chart(app)
    assert drawn["target"]["the subtracted means"] == pytest.approx(rows[-2]["target"], abs=1e-6)
    assert drawn["difference"]["not explained by the SAE"] == pytest.approx(rows[-1]["difference"], abs=1e-6)
    assert sum(drawn["target"].values()) == pytest.approx(pairs[0]["similarity"], abs=1e-5)
    gap = pairs[0]["similarity"] - pairs[1]["similarity"]
    assert f"is {score(abs(gap))} ahead" in words(app)
    largest = max((row["difference"] / gap, row["concept"]) for row in rows)
    assert f"{100 * largest[0]:.1f} %" in words(app)


def test_a_link_carries_which_list_is_explained(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(cache, monkeypatch, tab=QUERIES, method="realign", query="3", changed="all", why="after")
    assert "the subtracted means" in why_chart(app)["target"]
    other = run(cache, monkeypatch, tab=QUERIES, method="realign", query="3", changed="all", why="before")
    assert "the subtracted means" not in why_chart(other)["target"]


def test_two_models_are_not_split_and_the_reason_is_given(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(cache, monkeypatch, tab=QUERIES, method="rerank:n=5,first=clip-mini", query="3", why="after")
    assert "two models" in words(app)


def test_diagnostics_say_how_to_read_them(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(cache, monkeypatch, tab="Why it works or not", method="realign")
    assert said(app) == ""
    for name in ("Hubs", "Effective rank", "Modality gap", "Margin", "Worst hubs"):
        assert name in words(app)


@pytest.mark.parametrize("task", ["i2t", "t2i"])
@pytest.mark.parametrize("tab", ["All queries", QUERIES, "Why it works or not"])
def test_every_tab_of_every_task_opens_by_link(
    cache: Path, monkeypatch: pytest.MonkeyPatch, task: str, tab: str
) -> None:
    assert said(run(cache, monkeypatch, task=task, tab=tab)) == ""


@pytest.mark.parametrize(
    ("params", "part"),
    [
        ({"method": "removal:nonsense"}, "cannot be read"),
        ({"method": "removal:attribution,share=abc"}, "cannot be read"),
        ({"method": "removal:concepts=999999"}, "999999"),
        ({"method": "pca:n=48"}, "leave nothing"),
        ({"method": "rerank:n=5,first=nobody"}, "nobody"),
        ({"method": "pool:mean_no_prompt"}, "mean_no_prompt"),
        ({"also": "realign;witchcraft:x=1"}, "witchcraft"),
        ({"also": "pca:n=500"}, "500 components"),
        ({"query": "123456", "tab": QUERIES}, "123456"),
        ({"changed": "vanished", "tab": QUERIES}, "vanished"),
        ({"task": "x2y"}, "has no task"),
        ({"store": "nobody"}, "There is no store"),
        ({"definition": "vibes"}, "vibes"),
        ({"k": "7"}, "7"),
        ({"pool": "ocean"}, "ocean"),
        ({"curve": "spiral"}, "spiral"),
        ({"method": "realign:alpha=7"}, "alpha"),
        ({"method": "removal:concepts=-4"}, "concept is -4"),
        ({"method": "removal:attribution,share=nan"}, "cannot be read"),
    ],
)
def test_nonsense_in_the_address_is_a_sentence_and_the_page_goes_on(
    cache: Path, monkeypatch: pytest.MonkeyPatch, params: dict[str, str], part: str
) -> None:
    app = run(cache, monkeypatch, **params)
    assert part in said(app)
    assert "helps" in app.title[0].value


def test_removing_the_whole_space_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path, backbone="qwen2-vl-mini", n_concepts=32, width=32)
    app = run(tmp_path, monkeypatch, method="removal:energy,share=1")
    assert "nothing would be left to retrieve by" in said(app)
    assert app.selectbox(key="_lab_method_chosen")


def test_the_end_of_the_r_slider_can_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many concepts as dimensions: all but one can go, and all is said to be all."""
    make_store(tmp_path, backbone="qwen2-vl-mini", n_concepts=32, width=32)
    app = run(tmp_path, monkeypatch, method="removal:energy,share=1")
    assert (r_slider(app).value, r_slider(app).max) == (32, 32)
    assert said(app).count("32 of 32 dimensions") >= 1
    r_slider(app).set_value(31).run()
    assert said(app) == ""
    assert address(app, "method") == "removal:energy,share=1,r=31"
    assert (r_slider(app).value, r_slider(app).max) == (31, 31)
    space = space_from_store(open_store(next((tmp_path / "qwen2-vl-mini").iterdir())), "i2t")
    fitted = fit(parse(address(app, "method")), space)
    assert np.linalg.matrix_rank(np.concatenate([fitted.queries, fitted.candidates]), tol=1e-3) == 32 - 31


@pytest.mark.parametrize("asked", [6, 7, 500])
def test_an_r_beyond_the_space_is_shown_as_what_is_removed(
    cache: Path, monkeypatch: pytest.MonkeyPatch, asked: int
) -> None:
    app = run(cache, monkeypatch, method=f"{METHOD},r={asked}", curve="r")
    assert (r_slider(app).value, r_slider(app).max) == (6, 6)
    assert (f"r = {asked}, and its concepts span 6 dimensions" in said(app)) == (asked > 6)
    assert ("r = 500" in words(app)) is False
    plain = run(cache, monkeypatch, method=METHOD).dataframe[0].value
    assert app.dataframe[0].value.iloc[1].drop("method").equals(plain.iloc[1].drop("method"))
    chart = json.loads(next(c for c in app.get("plotly_chart") if "-curve-r" in c.proto.id).proto.spec)
    assert [shape["x0"] for shape in chart["layout"]["shapes"] if shape["x0"] == shape["x1"]] == [6]


def test_whitening_of_a_single_query_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path, backbone="qwen2-vl-mini", n_pairs=1)
    app = run(tmp_path, monkeypatch, method="realign")
    assert "no statistics to whiten queries with; expected two or more queries" in said(app)
    assert "Traceback" not in words(app)


def test_a_store_without_a_task_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path, backbone="qwen2-vl-mini", tasks=())
    app = run(tmp_path, monkeypatch)
    assert not app.exception
    assert "holds no retrieval task" in words(app)


def test_an_empty_cache_says_how_to_build_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(tmp_path, monkeypatch)
    assert not app.exception
    assert "python -m analysis demo" in "\n".join(code.value for code in app.code)


def test_the_link_follows_the_curve_that_is_chosen(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(cache, monkeypatch)
    choice = next(control for control in app.button_group if control.key == "_lab_curve")
    choice.set_value("share").run()
    assert any(code.value.startswith("?") and "curve=share" in code.value for code in app.code)


MASKS = "Masks, all models"


def test_the_masks_of_all_models_are_those_of_evaluate_and_of_the_command(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = run(cache, monkeypatch, tab=MASKS, k="5")
    assert said(app) == ""
    table = next(frame.value for frame in app.dataframe if "mask" in frame.value)
    names = [name for name in table if name not in ("side", "mask")]
    assert [name.split(" (N")[0] for name in names] == ["clip-mini", "qwen2-vl-mini"]
    rows = table.set_index(["side", "mask"])
    for name in names:
        opened = open_store(next((cache / name.split(" (N")[0]).iterdir()))
        space = space_from_store(opened, "i2t")
        assert name.endswith(f"(N {space.n_queries:,})")
        frame = evaluate(space, [BASE, parse("pool:queries=mean_no_image")], ks=[5])
        for mask, row in zip(("base", "w/o image"), frame.itertuples(), strict=True):
            assert rows.loc[("queries", mask), name].startswith(f"{100 * row.recall:.1f} [{100 * row.low:.1f}, ")
        assert rows.loc[("candidates", "w/o image"), name] == "no such tokens"  # they are texts
    assert rows.loc[("both sides", "w/o prompt"), names[1]] == "not stored"
    codes = [line for code in app.code for line in code.value.splitlines()]
    assert any("build --backbone qwen2-vl-mini" in line and "mean_no_prompt" in line for line in codes)
    command = next(line for line in codes if "pool:queries=mean_no_image" in line and "qwen2-vl-mini" in line)
    printed = {row["spec"]: row["recall"] for row in json.loads(invoke(command))["rows"]}
    shown = float(rows.loc[("queries", "w/o image"), names[1]].split()[0])
    assert shown == pytest.approx(100 * printed["pool:queries=mean_no_image"], abs=0.051)


def test_stores_of_the_masks_are_in_the_link_and_nonsense_is_a_sentence(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = run(cache, monkeypatch, tab=MASKS, stores="clip-mini,nobody")
    assert said(app).count("There is no store “nobody” in this cache") == 1
    table = next(frame.value for frame in app.dataframe if "mask" in frame.value)
    assert [name for name in table if "(N" in name] == [name for name in table if name.startswith("clip-mini")]
    make_store(tmp_path, backbone="qwen2-vl-mini")
    make_store(tmp_path, backbone="clip-mini", tasks=("t2i",))
    assert "has no task i2t, only t2i; it is left out" in said(run(tmp_path, monkeypatch, tab=MASKS))
