"""`python -m analysis retrieve --curve | --diagnose | --changed | --query --why` against independent forms of each number."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from analysis.cli import main
from analysis.retrieval.evaluation.evaluate import evaluate
from analysis.retrieval.interventions import BASE, parse
from analysis.retrieval.interventions.fitting import fit
from analysis.retrieval.task import space_from_store
from analysis.store import open_store
from tests.synthetic_store import make_store
from tests.wide import wide

METHOD = "removal:attribution,share=0.2"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return open_store(make_store(tmp_path_factory.mktemp("cache"), backbone="qwen2-vl-mini"))


@pytest.fixture(scope="module")
def space(store):
    return space_from_store(store, "i2t")


def ask(store, *options, method=METHOD):
    done = CliRunner().invoke(
        main, ["retrieve", str(store.path), "--task", "i2t", "--method", method, *map(str, options), "--json"]
    )
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def orders(space, method):
    fitted = fit(method, space)
    similarity = np.round(fitted.queries.astype(np.float64) @ fitted.candidates.astype(np.float64).T, 12)
    return np.argsort(-similarity, axis=1, kind="stable"), similarity


def best(space, method):
    order, _ = orders(space, method)
    return np.take_along_axis(space.qrels.toarray() > 0, order, axis=1).argmax(axis=1) + 1


def test_the_curve_over_r_is_the_evaluation_at_each_r_with_band_and_choice(store, space):
    found = ask(store, "--curve", "r", "--k", "1,5")
    curve = next(iter(found.values()))
    specs = [parse(f"{METHOD},r={row['x']:g}") for row in curve if row["k"] == 5]
    table = wide(evaluate(space, specs, ks=(1, 5)))
    for row, expected in zip([row for row in curve if row["k"] == 5], table.to_dict("records"), strict=True):
        assert row["recall"] == pytest.approx(expected["R@5"])
        assert (row["low"], row["high"]) == pytest.approx((expected["R@5_low"], expected["R@5_high"]))
    band = found["random concepts, 10 seeds"]
    control = evaluate(space, [parse(f"removal:random,share=0.2,r={band[-1]['x']:g},seeds=10")], ks=(5,)).iloc[0]
    assert (band[-1]["band_low"], band[-1]["band_high"]) == pytest.approx((control["band_low"], control["band_high"]))
    choice = found["r chosen on one half of the queries, reported on the other"]
    assert [row["k"] for row in choice] == [1, 5]
    assert all(row["queries_chose"] + row["queries_reported"] == space.n_queries for row in choice)
    assert all(row["reported_low"] <= row["reported"] <= row["reported_high"] for row in choice)


@pytest.mark.parametrize(("kind", "method"), [("share", METHOD), ("alpha", "realign:statistics=joint")])
def test_the_other_curves_hold_the_setting_of_the_method(store, space, kind, method):
    curve = next(iter(ask(store, "--curve", kind, "--k", 1, method=method).values()))
    for row in curve[::3]:
        spec = f"removal:attribution,share={row['x']}" if kind == "share" else f"{method},alpha={row['x']}"
        assert row["recall"] == pytest.approx(evaluate(space, [parse(spec)], ks=(1,), n_boot=1)["recall"].iloc[0])


@pytest.mark.parametrize(("kind", "start"), [("r", 2), ("share", 0), ("alpha", 0)])
def test_a_curve_with_the_other_steps_is_the_evaluation_of_them_all(store, space, kind, start):
    found = ask(store, "--curve", kind, "--k", 1, method=f"{METHOD},r=2+realign:alpha=0.4")
    rows = found["with the other steps"][start::3]
    specs = {
        "r": lambda x: f"{METHOD},r={x:g}+realign:alpha=0.4",
        "share": lambda x: f"removal:attribution,share={x}+realign:alpha=0.4",
        "alpha": lambda x: f"{METHOD},r=2+realign:alpha={x}",
    }
    table = wide(evaluate(space, [parse(specs[kind](row["x"])) for row in rows], ks=(1,)))
    for row, expected in zip(rows, table.to_dict("records"), strict=True):
        assert (row["recall"], row["low"], row["high"]) == pytest.approx(
            (expected["R@1"], expected["R@1_low"], expected["R@1_high"])
        )


def test_diagnostics_are_those_of_a_dense_search(store, space):
    found = ask(store, "--diagnose", "--method", "realign")
    rows = {row["method"]: row for row in found["diagnostics"]}
    assert list(rows) == ["base", parse(METHOD).label, parse("realign").label]
    for method in (BASE, parse(METHOD), parse("realign")):
        fitted = fit(method, space)
        order, similarity = orders(space, method)
        relevant = space.qrels.toarray() > 0
        counts = np.bincount(order[:, :10].ravel(), minlength=space.n_candidates)
        row = rows[method.label]
        assert row["modality_gap"] == pytest.approx(
            np.linalg.norm(fitted.queries.mean(0) - fitted.candidates.mean(0)), abs=1e-6
        )
        assert row["matched_cosine"] == pytest.approx(similarity[relevant].mean(), abs=1e-6)
        assert row["hubness"] == pytest.approx(((counts - counts.mean()) ** 3).mean() / counts.std() ** 3)
        assert row["worst_hub_share"] == pytest.approx(counts.max() / space.n_queries)
        right = np.where(relevant, similarity, -np.inf).max(axis=1)
        wrong = np.where(relevant, -np.inf, similarity).max(axis=1)
        assert row["margin"] == pytest.approx(np.median(right - wrong), abs=1e-6)
        worst = next(table for name, table in found.items() if name.startswith(f"worst hubs, {method.label}:"))
        assert worst[0]["count"] == counts.max()
        assert worst[0]["sample_id"] == space.candidate_names[worst[0]["candidate"]]


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return open_store(make_store(tmp_path_factory.mktemp("cache"), backbone="clip-mini", width=40))


@pytest.mark.parametrize("method", ["rerank:n=12,first=clip-mini", "fusion:weight=0.4,first=clip-mini"])
def test_diagnostics_of_a_hybrid_are_those_of_the_lists_it_gives(store, space, other, method):
    found = ask(store, "--diagnose", "--partner", other.path, method=method)
    row = found["diagnostics"][1]
    partner = space_from_store(other, "i2t")
    (first, left), (_, right) = orders(partner, BASE), orders(space, BASE)
    fused = 0.4 * zscores(right) + 0.6 * zscores(left)
    reranked = [sorted(ids[:12], key=lambda c, q=q: (-right[q, c], c)) for q, ids in enumerate(first)]
    lists = np.array(reranked) if method.startswith("rerank") else np.argsort(-fused, axis=1, kind="stable")
    counts = np.bincount(lists[:, :10].ravel(), minlength=space.n_candidates)
    assert row["hubness"] == pytest.approx(((counts - counts.mean()) ** 3).mean() / counts.std() ** 3)
    assert row["worst_hub_share"] == pytest.approx(counts.max() / space.n_queries)
    worst = next(table for name, table in found.items() if name.startswith(f"worst hubs, {parse(method).label}:"))
    assert [hub["count"] for hub in worst] == sorted(counts, reverse=True)[: len(worst)]
    assert all(hub["count"] == counts[hub["candidate"]] for hub in worst)
    for name in ("modality_gap", "matched_cosine", "random_cosine", "effective_rank", "distance_in_spreads"):
        assert row[name] is None
    relevant = space.qrels.toarray() > 0
    margin = np.where(relevant, fused, -np.inf).max(axis=1) - np.where(relevant, -np.inf, fused).max(axis=1)
    assert row["margin"] == (None if method.startswith("rerank") else pytest.approx(np.median(margin), abs=1e-6))
    done = CliRunner().invoke(
        main,
        ["retrieve", str(store.path), "--task", "i2t", "--diagnose", "--method", method, "--partner", str(other.path)],
    )
    assert "not defined" in done.output


def zscores(rows):
    return (rows - rows.mean(axis=1, keepdims=True)) / rows.std(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("kind", "method", "beside"),
    [
        ("r", METHOD, ["base", "realign"]),
        ("alpha", "realign:alpha=0.3", ["base", "centring:side", "realign"]),
        ("n", "rerank:n=5,first=clip-mini", ["base", "fusion:weight=0,first=clip-mini"]),
        ("weight", f"{METHOD}+fusion:weight=0.3,first=clip-mini", ["base", METHOD, "fusion:weight=0,first=clip-mini"]),
    ],
)
def test_level_lines_are_what_the_setting_does_not_change(store, space, other, kind, method, beside):
    partner = ["--partner", other.path] if "first" in method else []
    rows = ask(store, "--curve", kind, "--k", 5, *partner, method=method)["level lines, whatever the setting"]
    table = evaluate(space, [parse(spec) for spec in beside], ks=(5,), first=space_from_store(other, "i2t"))
    assert [row["method"] for row in rows] == table["method"].tolist()
    assert [row["recall"] for row in rows] == pytest.approx(table["recall"].tolist())


def test_a_hybrid_is_printed_with_the_other_model_alone(store, other):
    rows = ask(store, "--partner", other.path, method="rerank:n=5,first=clip-mini")["rows"]
    assert [row["method"] for row in rows[::3]] == ["base", "re-ranks the top 5 of clip-mini", "clip-mini alone"]
    alone = evaluate(space_from_store(other, "i2t"), [BASE], ks=(1, 5, 10))
    assert [row["recall"] for row in rows[6:]] == pytest.approx(alone["recall"].tolist())


def test_the_random_control_is_printed_with_the_range_of_its_seeds(store, space):
    method = f"{METHOD.replace('attribution', 'random')},seeds=4"
    given = ["retrieve", str(store.path), "--task", "i2t", "--method", method]
    table = wide(evaluate(space, [parse(method)], ks=(1, 5, 10))).iloc[0]
    printed = CliRunner().invoke(main, given).output
    line = next(line for line in printed.splitlines() if "seeds=4" in line)
    for k in (1, 5, 10):
        low, high = (100 * table[f"band@{k}_{end}"] for end in ("low", "high"))
        assert low < high
        assert f"{100 * table[f'R@{k}']:.1f} (seeds {low:.1f} to {high:.1f})" in line
    assert "range of the seeds, no bootstrap interval" in printed
    found = json.loads(CliRunner().invoke(main, [*given, "--json"]).output)
    assert found["rows"][4]["band_low"] == pytest.approx(table["band@5_low"])
    assert "random seeds" in found["intervals"]["band_low, band_high"]


@pytest.mark.parametrize("which", ["rescued", "lost", "near", "moved", "all"])
def test_changed_queries_have_the_ranks_of_a_dense_search(store, space, which):
    rows = next(iter(ask(store, "--changed", which, "--k", "1,3").values()))
    before, after = best(space, BASE), best(space, parse(METHOD))
    assert all((row["before"], row["after"]) == (before[row["query"]], after[row["query"]]) for row in rows)
    wanted = {
        "rescued": (before > 3) & (after <= 3), "lost": (before <= 3) & (after > 3),
        "near": (before > 3) & (after > 3) & (after <= 9), "moved": before > 0, "all": before > 0,
    }[which]  # fmt: skip
    assert sorted(row["query"] for row in rows) == np.flatnonzero(wanted).tolist()


@pytest.mark.parametrize(("side", "method"), [("before", METHOD), ("after", METHOD), ("after", "realign:alpha=0.3")])
def test_contributions_add_up_to_the_similarity_in_the_list(store, space, side, method):
    found = ask(store, "--query", 7, "--why", side, method=method)
    pairs, rows = found.values()
    order, similarity = orders(space, BASE if side == "before" else parse(method))
    relevant = set(space.qrels[[7]].indices.tolist())
    target = next(candidate for candidate in order[7] if candidate in relevant)
    rival = next(candidate for candidate in order[7] if candidate not in relevant)
    for pair, candidate, column in zip(pairs, (target, rival), ("target", "rival"), strict=True):
        assert pair["sample_id"] == space.candidate_names[candidate]
        assert pair["similarity"] == pytest.approx(similarity[7, candidate], abs=1e-6)
        assert sum(row[column] for row in rows) == pytest.approx(pair["similarity"], abs=1e-9)
    assert rows[-1]["name"] == "not explained by the SAE"
    assert (rows[-2]["name"] == "the subtracted means") == (method != METHOD)
    assert all(row["difference"] == pytest.approx(row["target"] - row["rival"]) for row in rows)


def test_the_global_pool_is_asked_for_by_name(store):
    done = CliRunner().invoke(main, ["retrieve", str(store.path), "--task", "i2t", "--pool", "global", "--json"])
    space = space_from_store(store, "i2t", "global")
    found = json.loads(done.output)
    assert found["candidates"] == space.n_candidates
    assert found["rows"][1]["recall"] == pytest.approx(evaluate(space, [BASE], ks=(5,))["recall"].iloc[0])


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["--curve", "r", "--diagnose"], 2, "exclude each other"),
        (["--why", "before"], 2, "--why needs --query"),
        (["--query", "999", "--why", "before"], 1, "no query 999"),
        (["--query", "1", "--why", "after", "--method", "rerank:n=5,first=a", "--partner", "PARTNER"], 1, "two models"),
        (["--curve", "n"], 1, "'n'"),
        (["--curve", "r", "--method", METHOD, "--method", "realign"], 1, "expected one"),
        (["--pool", "moon"], 2, "local"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(store, options, code, sentence):
    options = [str(store.path) if option == "PARTNER" else option for option in options]
    done = CliRunner().invoke(main, ["retrieve", str(store.path), "--task", "i2t", *options])
    assert done.exit_code == code
    assert sentence in done.output
    assert "Traceback" not in done.output
