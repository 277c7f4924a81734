"""Runs and qrels say to trec_eval what they say here, a run comes back as it went out, and strange lines are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from click.testing import CliRunner

from analysis.cli import main
from analysis.errors import DataError
from analysis.report.exchange import imported_recall, mteb_json, qrels_text, run_text
from analysis.retrieval.evaluation.evaluate import evaluate
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.interventions.intervention import BASE, parse
from analysis.retrieval.task import RetrievalSpace, space_from_store
from analysis.store import open_store
from tests.synthetic_store import make_store

KS = (1, 5, 10)


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("cache"), n_pairs=40)


@pytest.fixture(params=["i2t", "t2i"])
def space(request: pytest.FixtureRequest, store_path: Path) -> RetrievalSpace:
    return space_from_store(open_store(store_path), request.param)


def trec(run: str, qrels: str, measures: set[str]) -> dict[str, float]:
    """Means of trec_eval's measures over the queries of the qrels."""
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec-eval-terrier is not installed")
    judged = pytrec_eval.parse_qrel(qrels.splitlines())
    ranked = pytrec_eval.parse_run(run.splitlines())
    found = pytrec_eval.RelevanceEvaluator(judged, measures).evaluate(ranked)
    return {name: float(np.mean([one[name] for one in found.values()])) for name in next(iter(found.values()))}


@pytest.mark.parametrize("spec", ["base", "removal:attribution,share=0.1", "realign:alpha=0.3"])
def test_trec_eval_measures_what_we_measure(space: RetrievalSpace, spec: str) -> None:
    method = BASE if spec == "base" else parse(spec)
    found = trec(run_text(Lab(space), method), qrels_text(space), {"success.1,5,10", "recall.1,5,10"})
    for definition, name in (("hit", "success"), ("fraction", "recall")):
        rows = evaluate(space, [method], ks=KS, definition=definition).set_index("k")["recall"]
        for k in KS:
            assert found[f"{name}_{k}"] == pytest.approx(rows[k], abs=1e-9)


def tied_space() -> RetrievalSpace:
    """Every candidate is as similar as every other: only the order of ties decides."""
    same = np.ones((4, 3), np.float32)
    qrels = sp.csr_array(np.eye(4, 6))
    names = np.array(["a", "b c", "d%", "ü"]), np.array([f"x y{i}" for i in range(6)])
    return RetrievalSpace({"mean": same}, {"mean": np.ones((6, 3), np.float32)}, qrels, query_names=names[0],
                          candidate_names=names[1], task="t2i")  # fmt: skip


def test_ties_and_names_with_spaces_survive() -> None:
    space = tied_space()
    run = run_text(Lab(space), BASE)
    assert all(len(line.split()) == 6 for line in run.splitlines())
    assert trec(run, qrels_text(space), {"success.1,5"})["success_1"] == pytest.approx(0.25)
    assert imported_recall(space, run, ks=(1, 2))[1]["recall"] == pytest.approx(0.5)


def test_an_exported_run_comes_back_with_the_same_numbers(space: RetrievalSpace) -> None:
    method = parse("realign:alpha=0.3")
    expected = evaluate(space, [method], ks=KS)
    found = imported_recall(space, run_text(Lab(space), method), ks=KS)
    for name in ("k", "recall", "low", "high"):
        assert [row[name] for row in found] == pytest.approx(expected[name].tolist(), abs=1e-12)


def test_trec_eval_and_the_import_agree_on_a_foreign_run_with_ties(space: RetrievalSpace) -> None:
    random = np.random.default_rng(0)
    full = [line.split() for line in run_text(Lab(space), BASE).splitlines()]
    foreign = "\n".join(f"{q} Q0 {c} 0 {random.integers(0, 9)} other" for q, _, c, *_ in full)
    found = trec(foreign, qrels_text(space), {"success.1,5,10"})
    ours = imported_recall(space, foreign, ks=KS)
    for row in ours:
        assert row["recall"] == pytest.approx(found[f"success_{row['k']}"])


def test_a_query_without_a_line_is_a_miss_even_where_k_exceeds_the_pool() -> None:
    space = tied_space()
    one = run_text(Lab(space), BASE).splitlines()[0]
    assert imported_recall(space, one, ks=(1, 50))[1]["recall"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda line: "nonsense", "nonsense"),
        (lambda line: line.replace(line.split()[0], "stranger", 1), "stranger"),
        (lambda line: line.replace(line.split()[4], "nan"), "nan"),
        (lambda line: f"{line}\n{line}", "second time"),
        (lambda line: "", "no line"),
    ],
)
def test_strange_runs_are_refused_with_the_line(space: RetrievalSpace, change, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=f"{words}.*expected"):
        imported_recall(space, change(run_text(Lab(space), BASE).splitlines()[0]))


def test_mteb_calls_the_papers_recall_a_hit_rate(space: RetrievalSpace) -> None:
    table = evaluate(space, [BASE], ks=KS)
    whole = mteb_json(space, table, task="synthetic", model="m", split="test", ks=KS)
    (entry,) = whole["scores"]["test"]
    assert entry["hit_rate_at_10"] == pytest.approx(table.set_index("k")["recall"][10], abs=1e-5)
    assert entry["main_score"] == entry["hit_rate_at_10"]
    assert {"task_name", "dataset_revision", "mteb_version", "evaluation_time"} <= set(whole)
    fraction = mteb_json(
        space, evaluate(space, [BASE], ks=KS, definition="fraction"), task="s", model="m", split="t", ks=KS
    )
    assert "recall_at_5" in fraction["scores"]["t"][0]


def test_the_command_writes_and_reads_the_files(store_path: Path, tmp_path: Path) -> None:
    run, qrels, mteb = (str(tmp_path / name) for name in ("a.run", "a.qrels", "a.json"))
    common = ["retrieve", str(store_path), "--task", "i2t"]
    done = CliRunner().invoke(main, [*common, "--run-file", run, "--qrels-file", qrels, "--mteb-file", mteb])
    assert done.exit_code == 0, done.output
    assert json.loads(Path(mteb).read_text())["model"] == "clip-mini"
    done = CliRunner().invoke(main, [*common, "--import-run", run, "--json"])
    rows = json.loads(done.output)
    base, imported = rows[:3], rows[3:]
    assert [row["recall"] for row in imported] == pytest.approx([row["recall"] for row in base])
    assert {row["difference"] for row in imported} == {0}
    done = CliRunner().invoke(main, [*common, "--import-run", str(tmp_path / "missing")])
    assert done.exit_code == 1
    assert "missing" in done.output
    two = ["--method", "realign", "--method", "pca:n=1", "--run-file", run]
    done = CliRunner().invoke(main, [*common, *two])
    assert done.exit_code == 1
    assert "one --method" in done.output
