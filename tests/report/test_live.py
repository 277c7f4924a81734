"""The numbers of a pinned view are those that the library gives, and later they are measured again on what is there then."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.errors import AnalysisError
from analysis.report.live import MEASURES, Folder, facts_of, then_and_now
from analysis.report.slides import ReportError
from analysis.retrieval.evaluation.evaluate import evaluate
from analysis.retrieval.interventions import BASE, parse
from analysis.retrieval.task import space_from_store
from analysis.store import open_store
from analysis.store.finding import Finding, store_digest
from tests.synthetic_store import make_store

METHOD = "removal:attribution,share=0.05"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def sources(path: Path) -> Folder:
    return Folder(path.parents[1])


def identity(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def measure(path: Path, what: str, **settings: object) -> dict[str, object]:
    return {"what": what, "stores": [identity(path)], **settings}


def test_recall_is_that_of_the_evaluation_in_percent(path: Path, sources: Folder) -> None:
    found = facts_of(measure(path, "recall", task="i2t", methods=["base", METHOD], k=5), sources)
    table = evaluate(space_from_store(open_store(path), "i2t"), [BASE, parse(METHOD)], ks=[5])
    assert list(found.values()) == pytest.approx((100 * table["recall"]).tolist())
    assert list(found) == [f"R@5 of {label}" for label in table["method"]]


def test_scores_are_counted_by_hand(path: Path, sources: Folder) -> None:
    concepts = open_store(path).concepts
    score, energy = concepts["modality_score"].to_numpy(), concepts["energy"].to_numpy()
    live = [i for i in range(len(score)) if score[i] == score[i]]
    from_65, above_half = ([i for i in live if score[i] >= 0.65], [i for i in live if score[i] > 0.5])
    for setting, text in (({"from": 0.65}, from_65), ({"above": 0.5}, above_half)):
        found = facts_of(measure(path, "modality", **setting), sources)
        shares = [100 * len(text) / len(live), 100 * sum(energy[i] for i in text) / sum(energy)]
        assert list(found.values()) == pytest.approx(shares, abs=1e-5)
    strongest, held = sorted(energy, reverse=True), 0.0
    for n, value in enumerate(strongest, start=1):  # noqa: B007
        held += value
        if held >= 0.5 * sum(energy) - 1e-9:
            break
    assert facts_of(measure(path, "energy"), sources)["concepts that hold 50 % of the energy"] == n
    assert facts_of(measure(path, "concept", concept=2), sources)["energy"] == pytest.approx(energy[2], abs=1e-5)


def test_ranks_of_a_query_are_those_of_a_full_sort(path: Path, sources: Folder) -> None:
    space = space_from_store(open_store(path), "i2t")
    found = facts_of(measure(path, "ranks", task="i2t", query=3, method="base"), sources)
    queries, candidates = (space.rows(side, "mean") for side in ("queries", "candidates"))
    similarity = (candidates / np.linalg.norm(candidates, axis=1, keepdims=True)) @ queries[3]
    targets = space.qrels.indices[space.qrels.indptr[3] : space.qrels.indptr[4]]
    best = 1 + int((similarity > similarity[targets].max()).sum())
    assert found == {"rank of the best target before": best, "rank of the best target after": best}


def test_several_stores_are_told_apart_by_name(path: Path) -> None:
    other = make_store(path.parents[1], backbone="qwen2-vl-mini", seed=3)
    both = {"what": "overlap", "stores": [identity(path), identity(other)], "names": ["a", "b"]}
    found = facts_of(both, Folder(path.parents[1]))
    assert len(found) == 8
    assert all(name.endswith((" of a", " of b")) for name in found)


@pytest.mark.parametrize("wrong", [{"what": "virus"}, {"what": "recall", "stores": "x", "names": []}, {"stores": []}])
def test_what_is_no_measure_is_one_sentence(wrong: dict, sources: Folder) -> None:
    with pytest.raises(ReportError, match="pin its view again"):
        facts_of(wrong, sources)


def test_a_query_that_is_not_there_is_one_sentence(path: Path, sources: Folder) -> None:
    with pytest.raises(AnalysisError, match="does not hold"):
        facts_of(measure(path, "ranks", task="i2t", query=10**6, method="base"), sources)


def test_every_measure_is_tested_here() -> None:
    assert set(MEASURES) == {"modality", "energy", "overlap", "results", "recall", "ranks", "concept"}


def pinned(path: Path, how: dict[str, object]) -> Finding:
    store = open_store(path)
    facts = facts_of(how, Folder(path.parents[1]))
    return Finding("overview", "t", {}, measure=how, facts=facts, stores={identity(path): store_digest(store)})


def test_then_and_now_over_the_life_of_a_store(tmp_path: Path) -> None:
    path = make_store(tmp_path, dataset="life")
    one = pinned(path, measure(path, "results", task="i2t", methods=["base"], k=10))
    assert then_and_now(one, Folder(tmp_path)) == ""
    (name,) = one.facts
    lower = replace(one, facts={name: one.facts[name] + 3.5}, stores={identity(path): "0" * 64})
    assert then_and_now(lower, Folder(tmp_path)).startswith(f"The store has changed since: {name} ")
    again = make_store(tmp_path / "new", dataset="life", seed=5)
    shutil.rmtree(path)
    words = then_and_now(one, Folder(tmp_path))
    assert identity(path) in words
    assert "not in the cache any more" in words
    shutil.copytree(again.parents[1] / "sae", tmp_path / "sae", dirs_exist_ok=True)
    shutil.copytree(again, tmp_path / path.parent.name / f"life-{'0' * 12}")  # built again: another key, the same data
    assert then_and_now(one, Folder(tmp_path)).startswith("The store has changed since")


def test_a_finding_without_a_measure_says_whether_its_store_is_the_same(tmp_path: Path) -> None:
    path = make_store(tmp_path)
    one = replace(pinned(path, {}), facts={"R@10": 12.0})
    assert then_and_now(one, Folder(tmp_path)) == ""
    assert "numbers of this view are the same" in then_and_now(
        replace(one, stores={identity(path): "1"}), Folder(tmp_path)
    )
    assert not np.isnan(one.facts["R@10"])
