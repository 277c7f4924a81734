"""The paper on these models: its findings as measured on any set of stores, as findings that a deck can be made of.

Every number is one that a command prints: `retrieve`, `reproduce` and the tables of the stores. What a store was not built
with is left out, and the last slide says so.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.concepts.kde import curve_of
from analysis.concepts.metrics import TEXT_FROM, cumulative_energy, top_concepts
from analysis.figures import overview as figures
from analysis.figures.pairs import pair_attribution
from analysis.figures.palette import backbone_styles
from analysis.figures.recall import recall_bars
from analysis.figures.style import Curve, percent, points
from analysis.models.specs import place_of
from analysis.report.live import Folder, facts_of
from analysis.report.published import published
from analysis.report.reproduce import overlap_row
from analysis.report.slides import ReportError
from analysis.retrieval.evaluation.comparison import Comparison
from analysis.retrieval.evaluation.evaluate import recall_change
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.evaluation.movement import SideBySide, changed, movement, side_by_side
from analysis.retrieval.evaluation.why import explain
from analysis.retrieval.interventions.intervention import BASE, Intervention, parse
from analysis.retrieval.task import space_from_store
from analysis.store.finding import (
    Entry,
    Finding,
    Gallery,
    Lists,
    Part,
    RankedList,
    figure_part,
    store_digest,
    table_part,
)
from analysis.store.read import Store, data_of, demo_note_of

K = 10
SHARE = 0.01
METHODS = ("base", "removal", "random control", "untrained SAE", "PCA (2)", "centring")
MASKS = ("base", "w/o image", "w/o prompt")
POOLINGS = ("base", "last token")
TITLE = "Why do generative giants retrieve badly?"
CITATION = (
    "Feng, Sheng, Qiang, Li, Zhang: Generative Giants, Retrieval Weaklings. Findings of ACL 2026, pages 15917-15933"
)


@dataclass(frozen=True)
class _Ground:
    """The stores of a deck, an MLLM first, under the names that figures give them."""

    stores: tuple[Store, ...]
    names: tuple[str, ...]
    sources: Folder

    def finding(
        self,
        sentence: str,
        *parts: Part,
        stores: Sequence[Store] = (),
        command: str,
        caption: str = "",
        page: str = "overview",
        params: Mapping[str, object] | None = None,
        measure: Mapping[str, object] | None = None,
    ) -> Finding:
        """page: a file of pages/, which is its address. measure: see `analysis.report.live`, without the stores."""
        used = tuple(stores) or self.stores
        ids = [store_id(store) for store in used]
        view = {"stores": [",".join(ids)]} if page == "overview" else {"store": [ids[0]]}
        view |= {name: [str(value)] for name, value in (params or {}).items() if value != ""}
        names = [self.names[self.stores.index(store)] for store in used]
        how = {**measure, "stores": ids, "names": names} if measure else {}
        return Finding(
            page, sentence, view, command=command, sentence=sentence, parts=parts, measure=how,
            facts=facts_of(how, self.sources), caption=" ".join(filter(None, (caption, data_sentence(used)))),
            stores={store_id(s): store_digest(s) for s in used},
        )  # fmt: skip


def standard_findings(stores: Sequence[Store], *, say: Callable[[str], None] = lambda text: None) -> list[Finding]:
    """The findings of the deck in their order. ReportError without a store."""
    if not stores:
        raise ReportError(
            "There is no store to make the standard deck of; `.venv/bin/python -m analysis list` shows what there is."
        )
    ordered = tuple(
        sorted(stores, key=lambda one: (one.contrastive, one.embedding_mllm, place_of(one.backbone), one.label))
    )
    keys = [store.backbone for store in ordered]
    names = tuple(s.backbone if keys.count(s.backbone) == 1 else s.label for s in ordered)
    ground = _Ground(ordered, names, Folder(stores=ordered))
    found: list[Finding] = []
    for words, make in (
        ("modality scores", lambda: [text_dominates(ground)]),
        ("energy", lambda: [energy_is_concentrated(ground)]),
        ("overlap", lambda: [overlaps(ground)]),
        ("masks", lambda: masks(ground)),
        ("removal", lambda: removal(ground)),
        ("pooling", lambda: pooling(ground)),
        ("ReAlign", lambda: realign(ground)),
        ("queries and concepts", lambda: queries(ground)),
    ):
        say(words)
        found += make()
    return found


def text_dominates(ground: _Ground) -> Finding:
    curves, shares = [], []
    for store, name, style in zip(ground.stores, ground.names, backbone_styles(ground.names), strict=True):
        score, energy = (store.concepts[column].to_numpy(float) for column in ("modality_score", "energy"))
        curves.append(Curve(name, *curve_of(store.concepts), style))
        live = ~np.isnan(score)
        text = np.nan_to_num(score) >= TEXT_FROM
        shares.append((text.sum() / max(1, live.sum()), energy[text].sum() / max(energy.sum(), 1e-300)))
    first, *others = [percent(energy) for _, energy in shares]
    sentence = f"Text concepts hold {first} of the energy of {ground.names[0]}{_beside(ground.names[1:], others)}"
    chart = figures.modality_kde(curves)
    counts = ", ".join(
        percent(count) for count, _ in shares
    )  # in the order of the legend: with names it was cut on a slide
    caption = f"Modality scores (Eq. 4); from {TEXT_FROM}, text: {counts} of the live concepts."
    body = 's = open_store({path}).concepts; t = s["modality_score"] >= .65; print(s["energy"][t].sum() / s["energy"].sum())'
    return ground.finding(
        sentence, figure_part(chart), caption=caption, command=_python(ground.stores, body),
        measure={"what": "modality", "from": TEXT_FROM},
    )  # fmt: skip


def energy_is_concentrated(ground: _Ground) -> Finding:
    styles = backbone_styles(ground.names)
    shares = [cumulative_energy(store.concepts["energy"].to_numpy()) for store in ground.stores]
    curves = [Curve(n, np.arange(1, len(y) + 1), y, s) for n, y, s in zip(ground.names, shares, styles, strict=True)]
    half = [figures.energy_readout(curve.y)[0.5] for curve in curves]
    sizes = [len(curve.y) for curve in curves]
    words = [f"{n:,}" if len(set(sizes)) == 1 else f"{n:,} of {size:,}" for n, size in zip(half, sizes, strict=True)]
    first = f"{half[0]:,} of {sizes[0]:,} concepts of {ground.names[0]}"
    sentence = f"Half of the energy lies in {first}{_beside(ground.names[1:], words[1:])}"
    body = 'e = open_store({path}).concepts["energy"].sort_values(ascending=False); print(1 + (e.cumsum() < e.sum() / 2).sum())'
    chart = figures.cumulative_energy(curves)
    caption = "Cumulative energy (Eq. 3); markers: where 50, 90 and 99 % are reached."
    return ground.finding(
        sentence, figure_part(chart), caption=caption, command=_python(ground.stores, body), measure={"what": "energy"}
    )


def overlaps(ground: _Ground) -> Finding:
    rows = [{"model": name, **overlap_row(store)} for store, name in zip(ground.stores, ground.names, strict=True)]
    printed = published("table1").pivot_table(index="model", columns="column", values="value", sort=False).reset_index()
    printed.columns.name = None
    first, *others = [f"{row['J(E, A)']:.2f}" for row in rows]
    sentence = f"Loudest and deciding concepts overlap: J(E, A) {first} of {ground.names[0]}{_beside(ground.names[1:], others)}"
    names = ["model", "J(E, A)", "J(E, B)", "J(A, B)", "triple"]
    measured = table_part(pd.DataFrame(rows)[names], "Measured here")
    return ground.finding(
        sentence, measured, table_part(printed[names], "Published (Table 1)"),
        command="\n".join(_reproduce(store) for store in ground.stores),
        caption="Jaccard overlap (Eq. 7) of the top 1 % by energy E, attribution A, bridge B.", measure={"what": "overlap"},
    )  # fmt: skip


def masks(ground: _Ground) -> list[Finding]:
    return _recalls(ground, ("it2it", "it2i", "i2t"), MASKS, "Masking tokens before pooling (Figure 4)", _mask_sentence)


def removal(ground: _Ground) -> list[Finding]:
    return _recalls(ground, ("i2t", "t2i"), METHODS, "Removal beside its controls (Table 2)", _removal_sentence)


def pooling(ground: _Ground) -> list[Finding]:
    return _recalls(ground, ("i2t", "it2i", "i2i"), POOLINGS, "Pooling (Table 3)", _pool_sentence)


def realign(ground: _Ground) -> list[Finding]:
    return _recalls(ground, ("i2t", "t2i"), ("base", "centring", "ReAlign"), "ReAlign", _realign_sentence)


def queries(ground: _Ground) -> list[Finding]:
    """One rescued and one lost query of the first model, each with its reasons, and its strongest distractor."""
    store = ground.stores[0]
    task = next((name for name in ("i2t", "t2i") if name in store.tasks), None)
    if task is None:
        return []
    lab = Lab(space_from_store(store, task))
    method = Intervention(parse(f"removal:attribution,share={SHARE:g}").steps)
    moved = movement(lab.measure(BASE).ranks[0], lab.measure(method).ranks[0], K)
    found = []
    for status in ("rescued", "lost"):
        part = changed(moved, status)
        if len(part):
            found.append(query_finding(ground, store, lab, task, method, int(part["query"].iloc[0]), status))
    return [*found, *distractor(ground, store, lab, task)]


def query_finding(
    ground: _Ground, store: Store, lab: Lab, task: str, method: Intervention, query: int, status: str
) -> Finding:
    """Lists of a query before and after, and why the target stands where it stands after."""
    side = "before" if status == "rescued" else "after"  # what stood in its way, what it lost
    words, lists, charts = query_finding_parts(store, lab, method, query, (side,), top=3)
    charts[side].update_layout(xaxis_title_text="part of the similarity", xaxis2_title_text="difference", bargap=0.06)
    sentence = f"Removal of the top 1 % by attribution {'rescues' if status == 'rescued' else 'loses'} {words}"
    command = (
        f"{retrieve_command(store, task, [method.spec])} --query {query}\n"
        f"{retrieve_command(store, task, [method.spec])} --query {query} --why {side}"
    )
    return ground.finding(
        sentence, lists_part(store, task, lists), figure_part(charts[side]), stores=[store], command=command,
        page="retrieval_lab", measure={"what": "ranks", "task": task, "query": query, "method": method.spec},
        params={"task": task, "method": method.spec, "query": query, "changed": status, "why": side, "tab": "Query by query"},
        caption=f"Task {task}; ✓ and green: target; parts of the similarities {side} removal, hatched: removed concepts.",
    )  # fmt: skip


def query_finding_parts(
    store: Store,
    lab: Lab,
    method: Intervention,
    query: int,
    sides: Sequence[str],
    *,
    depth: int = 5,
    top: int = 6,
) -> tuple[str, SideBySide, dict[str, go.Figure]]:
    """(where its best target goes, in words; its lists before and after; why they are so, a chart a side)."""
    before, after = lab.lists(BASE), lab.lists(method)
    lists = side_by_side(before, after, query, depth, lab.space.qrels)
    names = {i: str(name or "") for i, name in enumerate(store.concepts["name"])}
    charts = {}
    for side in sides if len(lists.targets) and not method.unexplained() else ():
        seen = method if side == "after" else BASE
        why = explain(lab, Comparison(before, after, lab.space.qrels, query), side, seen)
        rival = "wrong winner" if why.rival_wins else "runner-up"
        charts[side] = pair_attribution(
            why.target, why.rival, names=names, top=top, captions=("target", rival),
            removed=method.removed_concepts(lab.space),
        )  # fmt: skip
    if not len(lists.targets):
        return f"query {query}, which has no target in the pool", lists, charts
    old, new = (int(lists.targets[name].min()) for name in ("rank_before", "rank_after"))
    return f"query {query}, its target goes from rank {old:,} to rank {new:,}", lists, charts


def distractor(ground: _Ground, store: Store, lab: Lab, task: str) -> list[Finding]:
    """The concept, among the top 1 % by attribution, whose removal alone raises recall most."""
    ids = top_concepts(store.concepts["attribution"].to_numpy(), SHARE)[:64]
    base = lab.measure(BASE)
    effects = {}
    for concept in map(int, ids):
        effects[concept] = recall_change(base, lab.measure(parse(f"removal:concepts={concept}")), K, "hit")
    if not effects:
        return []
    concept, change = max(effects.items(), key=lambda item: (item[1]["difference"], -item[0]))
    row = store.concepts.loc[concept]
    interval = f"[{points(change['difference_low'])}, {points(change['difference_high'])}]"
    sure = "" if change["difference_low"] > 0 or change["difference_high"] < 0 else ", which includes no change"
    name = f"“{row['name']}” ({concept})" if row["name"] else f"{concept}"
    sentence = (
        f"Strongest distractor: leaving out concept {name} alone changes R@{K} by {points(change['difference'])} points "
        f"{interval}{sure}"
    )
    facts = pd.DataFrame(
        [("modality score", row["modality_score"]), ("frequency", row["frequency"]), ("energy", row["energy"]),
         ("attribution", row["attribution"])], columns=["score", "value"],
    )  # fmt: skip
    made = ground.finding(
        sentence, concept_gallery(store, concept), table_part(facts), stores=[store], page="concept",
        params={"concept": concept, "task": task}, measure={"what": "concept", "concept": concept},
        command=retrieve_command(store, task, [f"removal:concepts={concept}"]),
        caption=f"Task {task}; of the top {len(ids)} concepts by attribution, each left out alone.",
    )  # fmt: skip
    return [made]


def concept_gallery(store: Store, concept: int, n: int = 6) -> Gallery:
    """The strongest pictures and captions of a concept."""
    rows, _ = store.postings.rows(concept)
    modality = store.samples["modality"].to_numpy()
    images = [thumbnail(store, int(row)) for row in rows[: 50 * n] if modality[row] == "image"][: 3 * n]
    images = images or [face(store, int(row)) for row in rows[: 3 * n]]  # it fires on captions only: what they describe
    texts = (str(store.samples["text"].iat[int(row)]) for row in rows[: 50 * n] if modality[row] == "text")
    return Gallery(tuple(dict.fromkeys(filter(None, images)))[:n], tuple(dict.fromkeys(texts))[:5])


def lists_part(store: Store, task: str, lists: SideBySide, *, depth: int = 5) -> Lists:
    """Two ranked lists as data, with thumbnails where the candidates are pictures."""
    known = store.task(task)

    def entries(frame: pd.DataFrame) -> tuple[Entry, ...]:
        rows = [int(known.candidate_rows[int(c)]) for c in frame["candidate"]]
        return tuple(
            Entry(int(rank), describe(store, row), float(score), bool(target), int(move), face(store, row))
            for row, rank, score, target, move in zip(
                rows, frame["rank"], frame["score"], frame["target"], frame["moved"], strict=True
            )
        )

    row = int(known.query_rows[lists.query])
    pair = (
        RankedList("before", entries(lists.before.head(depth))),
        RankedList("after", entries(lists.after.head(depth))),
    )
    return Lists(pair, f"query {lists.query}: {describe(store, row)}".rstrip(": "), thumbnail(store, row))


def describe(store: Store, row: int) -> str:
    """A sample in words: its text, else the first caption of its picture."""
    text = str(store.samples["text"].iat[row] or "")
    pair = int(store.samples["pair_id"].iat[row])
    if not text and pair >= 0:
        others = store.samples[(store.samples["pair_id"] == pair) & (store.samples["modality"] == "text")]["text"]
        text = str(others.iloc[0]) if len(others) else ""
    return text


def face(store: Store, row: int) -> str:
    """The picture of a sample, or the one that a caption describes."""
    own = thumbnail(store, row)
    pair = int(store.samples["pair_id"].iat[row])
    if own or pair < 0:
        return own
    same = (store.samples["pair_id"].to_numpy() == pair) & (store.samples["modality"].to_numpy() == "image")
    return thumbnail(store, int(same.argmax())) if same.any() else ""


def thumbnail(store: Store, row: int) -> str:
    """The stored thumbnail as a data URI, "" where there is none."""
    path = store.thumb_path(row)
    if path is None or not path.is_file():
        return ""
    return f"data:image/{path.suffix[1:].lower()};base64,{base64.b64encode(path.read_bytes()).decode()}"


def store_id(store: Store) -> str:
    return f"{store.path.parent.name}/{store.path.name}"


def data_sentence(stores: Sequence[Store]) -> str:
    """The data and models of stores, and the demo label."""
    note = demo_sentence(stores)
    return f"{data_of(stores)}. {note}" if note else f"{data_of(stores)}."


def demo_sentence(stores: Sequence[Store]) -> str:
    """The demo's label as a sentence, with what lies outside of its world; "" where no store is a demo's."""
    note = demo_note_of(stores)
    return f"{note[0].upper()}{note[1:]}." if note else ""


def _recalls(
    ground: _Ground, tasks: Sequence[str], methods: Sequence[str], title: str,
    sentence: Callable[[str, str, dict[str, pd.Series]], str],
) -> list[Finding]:  # fmt: skip
    """One finding a store that has at least two of the methods, on the first of the tasks that has them."""
    found = []
    for store, name in zip(ground.stores, ground.names, strict=True):
        for task in (task for task in tasks if task in store.tasks and store.has(f"retrieval/{task}/results.parquet")):
            table = store.results(task)
            table = table[table["method"].isin(methods)]
            rows = {str(row["method"]): row for _, row in table[table["k"] == K].iterrows()}
            if "base" not in rows or len(rows) < 2:
                continue
            order = [name for name in methods if name in rows]
            shown = pd.concat([table[table["method"] == method] for method in order])
            specs = [str(rows[method]["spec"]) for method in order if method != "base"]
            found.append(
                ground.finding(
                    sentence(name, task, rows), figure_part(recall_bars(shown)), stores=[store], page="retrieval_lab",
                    params={"task": task, "method": specs[0], "also": ";".join(specs[1:])},
                    measure={"what": "results", "task": task, "k": K, "methods": order},
                    command=retrieve_command(store, task, specs),
                    caption=f"{title}. Recall on {task} with 95 % intervals; random: mean and range of its seeds.",
                )
            )  # fmt: skip
            break
    return found


def _mask_sentence(name: str, task: str, rows: dict[str, pd.Series]) -> str:
    parts = [f"{_change(rows[method])} {method}" for method in MASKS[1:] if method in rows]
    return f"{name} on {task}: R@{K} {percent(rows['base']['recall'])}, {' and '.join(parts)}"


def _removal_sentence(name: str, task: str, rows: dict[str, pd.Series]) -> str:
    text = f"{name} on {task}: R@{K} {percent(rows['base']['recall'])}"
    if "removal" in rows:
        text += f", {_change(rows['removal'])} after removing the top 1 % by attribution"
    text += f", {_change(rows['random control'])} at random" if "random control" in rows else ""
    return text + (f", {_change(rows['untrained SAE'])} by an untrained SAE" if "untrained SAE" in rows else "")


def _pool_sentence(name: str, task: str, rows: dict[str, pd.Series]) -> str:
    return f"{name} on {task}: R@{K} {percent(rows['base']['recall'])} by mean pooling, {_change(rows['last token'])} by the " \
           "last token"  # fmt: skip


def _realign_sentence(name: str, task: str, rows: dict[str, pd.Series]) -> str:
    parts = [f"{_change(rows[method])} by {method}" for method in ("ReAlign", "centring") if method in rows]
    return f"{name} on {task}: R@{K} {percent(rows['base']['recall'])}, {' and '.join(parts)}"


def _change(row: pd.Series) -> str:
    """The difference to the base in points, said to be none where its interval includes 0."""
    if row["difference_low"] <= 0 <= row["difference_high"]:
        return f"no sure change ({points(row['difference'])})"
    return f"{points(row['difference'])} points"


def _beside(names: Sequence[str], words: Sequence[str]) -> str:
    """The same of the other models, short enough that eight of them fit into a title."""
    said = [f"{name} {word}" for name, word in zip(names, words, strict=True)]
    return f" (beside {', '.join(said)})" if said else ""


def retrieve_command(store: Store, task: str, specs: Sequence[str]) -> str:
    methods = "".join(f" --method {shlex.quote(spec)}" for spec in specs)
    return f".venv/bin/python -m analysis retrieve {shlex.quote(str(store.path))} --task {task}{methods}"


def _reproduce(store: Store) -> str:
    return f".venv/bin/python -m analysis reproduce --store {shlex.quote(str(store.path))}"


def _python(stores: Sequence[Store], body: str) -> str:
    lines = (f"from analysis.store import open_store; {body.format(path=repr(str(store.path)))}" for store in stores)
    return "\n".join(f".venv/bin/python -c {shlex.quote(line)}" for line in lines)
