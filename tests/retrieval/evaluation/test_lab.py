"""The lab's shortcuts give the numbers of the plain evaluation, whatever is moved and in whatever order."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import cachetools
import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation import controls as controls_module
from analysis.retrieval.evaluation import curves as curves_module
from analysis.retrieval.evaluation.curves import WHOLE, behind, control_band, curves, has_whole, settings_for, step_of
from analysis.retrieval.evaluation.evaluate import evaluate, recall_frame
from analysis.retrieval.evaluation.lab import Lab, Measured
from analysis.retrieval.evaluation.movement import side_by_side
from analysis.retrieval.interventions import BASE, Intervention, parse
from analysis.retrieval.interventions.fitting import fit
from analysis.retrieval.ranking.engine import LabEngine
from analysis.retrieval.ranking.low_rank import Projection
from analysis.retrieval.ranking.ranks import TargetRanks, target_ranks
from analysis.retrieval.recall import hits_of_ranks
from analysis.retrieval.task import RetrievalSpace, space_from_store
from analysis.store import open_store
from tests.retrieval.planted import world
from tests.synthetic_store import make_store

SPECS = (
    "nnn:alpha=0.5,k=8",
    "realign:alpha=0.3+csls:k=4",
    "inverted_softmax:beta=10",
    "qb_norm:beta=10",
    "sinkhorn:beta=10",
    "sae_edit:energy,share=0.1",
    "bimodal:low=0.2,high=0.8",
    "all_but_the_top:n=2",
    "removal:attribution,share=0.2",
    "removal:attribution,share=0.2,r=2",
    "removal:energy,share=0.3,r=3",
    "removal:random,share=0.2,seeds=4",
    "pca:n=3",
    "centring:side",
    "centring:joint",
    "centring:modality",
    "realign:alpha=0.3",
    "pool:last",
    "pool:queries=mean_no_image+removal:attribution,share=0.1+realign:alpha=0.1",
    "edit:2=0,3=2",
    "codes:idf",
    "rerank:n=5,first=other",
    "fusion:weight=0.5,first=other",
)
SEEDED = "removal:random,share=0.2,seeds=4"


@pytest.fixture(scope="module")
def spaces(tmp_path_factory: pytest.TempPathFactory) -> tuple[RetrievalSpace, RetrievalSpace]:
    cache = tmp_path_factory.mktemp("cache")
    mine = open_store(make_store(cache, backbone="qwen2-vl-mini"))
    other = open_store(make_store(cache, backbone="clip-mini", width=40))
    return space_from_store(mine, "i2t"), space_from_store(other, "i2t")


@pytest.fixture(scope="module")
def lab(spaces: tuple[RetrievalSpace, RetrievalSpace]) -> Lab:
    return Lab(spaces[0], lambda name: spaces[1])


def plainly(spaces: tuple[RetrievalSpace, RetrievalSpace], spec: str) -> TargetRanks:
    """The ranks without a lab: everything fitted anew, one whole product."""
    method = parse(spec).seeds()[0]
    fitted = fit(method, spaces[0])
    scores, hybrid = fitted.scores(), method.hybrid
    if hybrid is None:
        return target_ranks(scores, spaces[0].qrels).losing(fitted.void_queries)
    return hybrid.ranks(fit(BASE, spaces[1]).scores(), scores, spaces[0].qrels)


@pytest.mark.parametrize("spec", SPECS)
def test_ranks_are_those_of_the_plain_computation(
    lab: Lab, spaces: tuple[RetrievalSpace, RetrievalSpace], spec: str
) -> None:
    measured = lab.measure(parse(spec))
    np.testing.assert_array_equal(measured.ranks[0].rank, plainly(spaces, spec).rank)
    frame = recall_frame(lab.measure(BASE), [measured], ks=(1, 5))
    assert frame[["band_low", "band_high"]].isna().all(axis=None) == (spec != SEEDED)
    hits = np.mean([hits_of_ranks(ranks, (1, 5)) for ranks in measured.ranks], axis=0)
    assert frame["recall"].tolist() == pytest.approx(hits.mean(axis=0).tolist())


@pytest.mark.parametrize(
    "spec", [s for s in SPECS if s != SEEDED and parse(s).hybrid is None and parse(s).correction is None]
)
def test_lists_follow_the_fitted_rows(lab: Lab, spaces: tuple[RetrievalSpace, RetrievalSpace], spec: str) -> None:
    found = side_by_side(lab.lists(BASE), lab.lists(parse(spec)), 3, 8, spaces[0].qrels)
    fitted = fit(parse(spec), spaces[0])
    similarity = np.round(fitted.candidates @ fitted.queries[3], 12)
    assert found.after["candidate"].tolist() == sorted(range(len(similarity)), key=lambda c: (-similarity[c], c))[:8]


def test_moving_r_reuses_one_projection(lab: Lab) -> None:
    first, r_first = lab.projection(parse("removal:attribution,share=0.2,r=2").steps[0])
    second, r_second = lab.projection(parse("removal:attribution,share=0.2,r=4").steps[0])
    assert first is second
    assert (r_first, r_second) == (2, 4)


def test_table_curve_and_another_curve_count_each_r_once(
    spaces: tuple[RetrievalSpace, RetrievalSpace], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, counted = Lab(spaces[0]), []
    whole = LabEngine.rank_curve

    def count(self: LabEngine, basis: Projection, rs: list[int | None], **options: int | None) -> list[TargetRanks]:
        counted.extend(r for r in rs if r is not None)
        return whole(self, basis, rs, **options)

    monkeypatch.setattr(LabEngine, "rank_curve", count)
    removal = parse("removal:attribution,share=0.2")
    measured = lab.measure(removal).ranks[0]
    first = lab.ranks_along(removal, removal.steps[0], "r", [0, 1, 3, 1000])
    again = lab.ranks_along(removal, removal.steps[0], "r", [3, 1, 2])
    assert sorted(counted) == [1, 2, 3, lab.projection(removal.steps[0])[1]]
    assert [ranks.rank.tolist() for ranks in (first[1], first[2])] == [again[1].rank.tolist(), again[0].rank.tolist()]
    np.testing.assert_array_equal(first[3].rank, measured.rank)
    np.testing.assert_array_equal(first[0].rank, lab.measure(BASE).ranks[0].rank)


def test_all_dimensions_but_one_can_be_removed(tmp_path: Path) -> None:
    """Where the concepts span everything, the projection that serves every r must not."""
    space = space_from_store(open_store(make_store(tmp_path, n_concepts=32, width=32)), "i2t")
    lab = Lab(space)
    for r in (31, 3, 30):
        removal = parse(f"removal:energy,share=1,r={r}")
        fitted = fit(removal, space)
        plain = target_ranks(fitted.scores(), space.qrels).losing(fitted.void_queries)
        expected = hits_of_ranks(plain, (1, 5)).mean(axis=0)
        found = lab.measure(removal).ranks[0].best
        assert [(found <= k).mean() for k in (1, 5)] == expected.tolist()
    own = behind("r", parse("removal:energy,share=1,r=3"), space)
    drawn = next(iter(curves(lab, "r", own, ks=(1,)).curves.values()))
    assert drawn["x"].max() == control_band(lab, "r", own, ks=(1,))["x"].max() == 31
    for r in ("", ",r=32", ",r=400"):
        with pytest.raises(RetrievalError, match="32 of 32 dimensions"):
            lab.measure(parse(f"removal:energy,share=1{r}"))


@pytest.mark.parametrize(
    ("spec", "setting"), [("removal:concepts=0,1,r=2", "r"), ("removal:concepts=0,1+fusion:first=other", "weight")]
)
def test_a_query_without_a_direction_is_a_miss_on_every_curve_too(spec: str, setting: str) -> None:
    planted = world(captions=2)
    h = planted.embeddings["queries"].copy()
    h[:10] = planted.sae.dictionary[:1]
    broken = replace(planted.space, queries={"mean": h})
    lab, method = Lab(broken, lambda name: planted.space), parse(spec)
    measured = lab.measure(method).ranks[0]
    assert (measured.best[:10] == planted.space.n_candidates + 1).all()
    step = step_of(setting, method)
    (along,) = lab.ranks_along(method, step, setting, [getattr(step, setting)])
    np.testing.assert_array_equal(along.rank, measured.rank)


def test_a_curve_does_not_wait_for_a_visitor_who_waits_for_it(lab: Lab) -> None:
    """Two visitors, one measuring a point for the table, one drawing the curve through it: each keeps what the other asks."""
    point = parse("realign:alpha=0.1")
    asked, go_on = threading.Event(), threading.Event()

    def slowly(method: Intervention) -> Measured:
        if threading.current_thread().name == "table":
            asked.set()
            go_on.wait(20)
        return lab.measure(method)

    kept = cachetools.cached(cachetools.LRUCache(9), condition=threading.Condition())(slowly)
    found: list[object] = []
    table = threading.Thread(target=lambda: found.append(kept(point)), name="table", daemon=True)
    curve = threading.Thread(
        target=lambda: found.append(lab.ranks_along(point, point.steps[0], "alpha", [0.1], measure=kept)), daemon=True
    )
    table.start()
    asked.wait(20)
    curve.start()
    curve.join(0.2)  # it waits for the point by now
    go_on.set()
    table.join(20)
    curve.join(20)
    assert len(found) == 2


def test_a_hybrid_without_a_partner_is_refused(spaces: tuple[RetrievalSpace, RetrievalSpace]) -> None:
    with pytest.raises(RetrievalError, match="second store"):
        Lab(spaces[0]).measure(parse("rerank:n=5"))


def test_diagnostics_are_those_of_the_fitted_rows(lab: Lab, spaces: tuple[RetrievalSpace, RetrievalSpace]) -> None:
    found = lab.diagnose(parse("realign:alpha=0.3"))
    fitted = fit(parse("realign:alpha=0.3"), spaces[0])
    order = np.argsort(-np.round(fitted.queries @ fitted.candidates.T, 12), axis=1, kind="stable")[:, :10]
    np.testing.assert_array_equal(found.occurrences, np.bincount(order.ravel(), minlength=spaces[0].n_candidates))
    gap = np.linalg.norm(fitted.queries.mean(0) - fitted.candidates.mean(0))
    assert found.modality_gap == pytest.approx(gap, abs=1e-6)


@pytest.mark.parametrize("kind", ["r", "share", "alpha", "n", "weight"])
def test_every_curve_passes_through_what_the_lab_measures(lab: Lab, kind: str) -> None:
    after = parse(
        {
            "r": "removal:attribution,share=0.2,r=2",
            "share": "removal:energy,share=0.1",
            "alpha": "realign:alpha=0.3",
            "n": "rerank:n=5,first=other",
            "weight": "fusion:weight=0.5,first=other",
        }[kind]
    )
    found = curves(lab, kind, behind(kind, after, lab.space), ks=(1, 5))
    x = {"r": 2, "share": 0.1, "alpha": 0.3, "n": 5, "weight": 0.5}[kind]
    table = next(iter(found.curves.values()))
    on_curve = table[np.isclose(table["x"], x)].set_index("k")["recall"]
    measured = recall_frame(lab.measure(BASE), [lab.measure(after)], ks=(1, 5)).set_index("k")["recall"]
    assert on_curve[1] == pytest.approx(measured[1])
    assert on_curve[5] == pytest.approx(measured[5])


@pytest.mark.parametrize(
    ("kind", "x", "spec"),
    [
        ("r", 2, "removal:attribution,share=0.2,r=2+realign:alpha=0.3"),
        ("r", 0, "realign:alpha=0.3"),
        ("share", 0.1, "removal:attribution,share=0.1+centring:joint"),
        ("alpha", 0.5, "pool:last+removal:energy,r=1+realign:alpha=0.5"),
        ("alpha", 0.3, "realign:alpha=0.3+fusion:weight=0.4,first=other"),
    ],
)
def test_the_other_steps_stand_in_a_line_of_their_own(lab: Lab, kind: str, x: float, spec: str) -> None:
    after = parse(spec) if x else parse(f"removal:attribution,share=0.2+{spec}")
    assert has_whole(kind, after, lab.space)
    found = curves(lab, kind, behind(kind, after, lab.space), ks=(1, 5))
    whole = found.curves[WHOLE]
    measured = recall_frame(lab.measure(BASE), [lab.measure(parse(spec))], ks=(1, 5)).set_index("k")
    for k in (1, 5):
        point = whole[np.isclose(whole["x"], x) & (whole["k"] == k)].iloc[0]
        for name in ("recall", "low", "high", "difference", "difference_low", "difference_high"):
            assert point[name] == pytest.approx(measured.loc[k, name]), name
    alone = next(iter(found.curves.values()))
    assert not np.allclose(alone["recall"], whole["recall"])


def test_r_is_chosen_for_the_whole_intervention(lab: Lab) -> None:
    after = parse("removal:attribution,share=0.2+realign")
    choice = curves(lab, "r", behind("r", after, lab.space), ks=(1,)).choice[1]
    n = lab.space.n_queries
    half = np.random.default_rng(0).permutation(n)[: n // 2]
    for r, recall in zip(choice.rs, choice.chosen_on, strict=True):
        step = step_of("r", after)
        ranks = lab.measure(after.replaced(step, step.at("r", r))).ranks[0]
        assert recall == pytest.approx((ranks.best[half] <= 1).mean())


def test_a_large_task_has_the_step_alone(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    after = parse("removal:attribution,share=0.2,r=2+realign")
    monkeypatch.setattr(curves_module, "LARGE", lab.space.n_queries * lab.space.n_candidates - 1)
    assert behind("r", after, lab.space) == parse("removal:attribution,share=0.2")
    assert WHOLE not in curves(lab, "r", behind("r", after, lab.space), ks=(1,)).curves


def test_the_band_is_the_range_of_ten_seeds(lab: Lab) -> None:
    band = control_band(lab, "r", parse("removal:attribution,share=0.2"), ks=(5,))
    assert band is not None
    whole = band[band["x"] == band["x"].max()].iloc[0]
    control = parse("removal:random,share=0.2,seeds=10")
    frame = recall_frame(lab.measure(BASE), [lab.measure(control)], ks=(5,)).iloc[0]
    assert (whole["band_low"], whole["band_high"]) == pytest.approx((frame["band_low"], frame["band_high"]))


def test_what_lies_on_one_curve_shares_its_key(lab: Lab) -> None:
    def key(kind: str, spec: str) -> Intervention:
        return behind(kind, parse(spec), lab.space)

    for others in ("", "+realign"):
        assert key("r", f"removal:energy,share=0.1,r=3{others}") == key("r", f"removal:energy,share=0.1,r=9{others}")
        assert key("share", f"removal:energy,share=0.1{others}") == key("share", f"removal:energy,share=0.5{others}")
        assert key("r", f"removal:energy,share=0.1{others}") != key("r", f"removal:energy,share=0.2{others}")
    assert key("alpha", "realign:alpha=0.2") == key("alpha", "realign:alpha=0.9") != key("alpha", "realign:eps=0.1")
    assert key("r", "realign") == parse("removal")  # the view has no removal: the default one stands alone
    assert settings_for(parse("removal:concepts=1+realign")) == ["r", "alpha", "eps", "share"]


def test_fraction_counts_targets_that_are_missing_from_the_pool_as_evaluate_does(spaces):
    space = spaces[0]
    short = replace(space, missing_per_query=np.arange(space.n_queries) % 3)
    lab = Lab(short)
    frame = recall_frame(lab.measure(BASE), [lab.measure(BASE)], ks=(1, 5), definition="fraction")
    table = evaluate(short, [BASE], ks=(1, 5), definition="fraction")
    assert frame["recall"].tolist() == pytest.approx(table["recall"].tolist())
    full = recall_frame(Lab(space).measure(BASE), [Lab(space).measure(BASE)], ks=(1, 5), definition="fraction")
    assert frame["recall"].iloc[1] < full["recall"].iloc[1]


def test_on_a_large_task_a_band_has_three_seeds_and_says_so(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls_module, "LARGE", lab.space.n_queries * lab.space.n_candidates - 1)
    band = control_band(lab, "r", parse("removal:attribution,share=0.2"), ks=(5,))
    assert band is not None
    assert band.attrs["seeds"] == 3
    whole = band[band["x"] == band["x"].max()].iloc[0]
    frame = recall_frame(lab.measure(BASE), [lab.measure(parse("removal:random,share=0.2,seeds=3"))], ks=(5,)).iloc[0]
    assert (whole["band_low"], whole["band_high"]) == pytest.approx((frame["band_low"], frame["band_high"]))
