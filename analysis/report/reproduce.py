"""Every published number beside the one measured here, if any: two columns, never one. The state says whether they may be
compared, or what is missing; the command gives the measured number again."""

from __future__ import annotations

import io
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.concepts.metrics import TEXT_FROM, cumulative_energy, jaccard, top_concepts
from analysis.report.published import paper, published, statements
from analysis.store.read import Store, find_stores, open_store

COLUMNS = (
    "table", "model", "setting", "dataset", "column", "published", "measured", "difference", "low", "high", "state", "store",
    "command", "source",
)  # fmt: skip
METHOD_OF = {"Base": "base", "Removal": "removal", "Mean pooling": "base", "Last token": "last token"}
KEY_OF = {"clip": "clip-vit-b32", "siglip2": "siglip2-b16-512"}
MEASURED, OTHER = "measured", "other data or model than published"
FORMATS = ("text", "md", "csv", "tex", "json")
_TEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "<": r"\textless{}", ">": r"\textgreater{}",
        "α": r"$\alpha$", "·": r"$\cdot$", "–": "--", "−": "$-$"}  # fmt: skip


def reproduction_table(cache: str | Path = "cache", *, store: Store | None = None) -> pd.DataFrame:
    """One row per published number of Tables 1 to 3, then the statements that carry no number (Figures 1-4, ReAlign).

    store: measure everything on this one, whatever model it is of; otherwise each number on a store of its own model under
    `cache`, demo stores left out. measured has the unit of published; difference = measured - published; low, high: 95 %
    bootstrap interval of the difference over queries (of recalls). state: "measured"; "other data or model than published"
    with what differs; "not measured" with what is missing. NaN where there is no number.
    """
    stores = [store] if store is not None else [one for one in _opened(cache) if not one.is_demo]
    rows = [_row(number, stores, chosen=store is not None) for _, number in published().iterrows()]
    rows += [_statement(entry, stores[0] if store is not None else None) for entry in statements()]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def overlap_row(store: Store, *, share: float = 0.01, reduction: str = "max") -> dict[str, float]:
    """Table 1 of a store: Jaccard similarity of the top `share` concepts by energy (E), attribution (A), bridge (B)."""
    table = store.concepts
    energy, attribution, bridge = (
        top_concepts(table[name].to_numpy(), share) for name in ("energy", "attribution", f"bridge_{reduction}")
    )
    return {
        "J(E, A)": jaccard(energy, attribution),
        "J(E, B)": jaccard(energy, bridge),
        "J(A, B)": jaccard(attribution, bridge),
        "triple": jaccard(energy, attribution, bridge),
    }


def formatted(table: pd.DataFrame, kind: str) -> str:
    """The table as "text", "md", "csv", "tex" (booktabs) or "json"."""
    if kind == "json":
        return str(table.to_json(orient="records", indent=1))
    if kind == "csv":
        return str(table.to_csv(index=False))
    if kind == "text":
        return str(table.drop(columns="source").to_string(index=False, na_rep=""))
    shown = _shown(table)
    return _markdown(shown, table) if kind == "md" else _latex(shown)


def _row(number: pd.Series, stores: Sequence[Store], *, chosen: bool) -> dict[str, object]:
    found: dict[str, object] = {
        name: number[name] for name in ("table", "model", "setting", "dataset", "column", "source")
    }
    nothing = {"measured": np.nan, "difference": np.nan, "low": np.nan, "high": np.nan}
    found |= {"published": number["value"], **nothing, "store": ""}
    key = KEY_OF.get(number["backbone"], number["backbone"])
    mine = list(stores) if chosen else [one for one in stores if one.backbone == key]
    build = f".venv/bin/python -m analysis build --backbone {key} --dataset /path/to/{str(number['dataset']).lower()}"
    if not mine:
        return found | {"state": f"not measured: no store of {key} on {number['dataset']}", "command": build}
    best = min(mine, key=lambda one: len(_missing(one, number)) * 10 + len(_differs(one, number)))
    missing, differs = _missing(best, number), _differs(best, number)
    if missing:
        return found | {"state": f"not measured: {missing}", "store": best.name, "command": build}
    value, low, high, command = _measured(best, number)
    shift = float(number["value"])
    return found | {
        "measured": value, "difference": value - shift, "low": low - shift, "high": high - shift, "store": best.name,
        "state": f"{OTHER}: {', '.join(differs)}" if differs else MEASURED, "command": command,
    }  # fmt: skip


def _missing(store: Store, number: pd.Series) -> str:
    """What a store lacks to answer for a number, "" when it has it."""
    if number["table"] == "table1":
        return ""
    task, method = str(number["task"]), METHOD_OF[number["setting"]]
    if task not in store.tasks:
        return f"the store has no task {task}"
    if not store.has(f"retrieval/{task}/results.parquet"):
        return f"the store has no results of {task}"
    found = store.results(task)
    k = int(str(number["column"]).removeprefix("R@"))
    return (
        ""
        if ((found["method"] == method) & (found["k"] == k)).any()
        else f"no result of {method!r} at k = {k} on {task}"
    )


def _differs(store: Store, number: pd.Series) -> list[str]:
    """What of model and data is another than published."""
    key = KEY_OF.get(number["backbone"], number["backbone"])
    wanted = str(number["dataset"])
    said = [] if store.backbone == key else [f"{store.backbone} instead of {key}"]
    name = wanted.lower().removeprefix("ms")
    if name not in store.dataset.lower():
        said.append(f"{store.dataset} instead of {wanted}")
    elif number["table"] == "table2" and (n := len(store.task(str(number["task"])).query_rows)) not in range(
        2900, 3101
    ):
        said.append(f"{n:,} instead of 3k queries")
    return said


def _measured(store: Store, number: pd.Series) -> tuple[float, float, float, str]:
    """(value, low, high, command) in the unit of the published number."""
    place = shlex.quote(str(store.path))
    if number["table"] == "table1":
        return (
            overlap_row(store)[number["column"]],
            np.nan,
            np.nan,
            f".venv/bin/python -m analysis reproduce --store {place}",
        )
    task, k = str(number["task"]), int(str(number["column"]).removeprefix("R@"))
    results = store.results(task)
    hit = results[(results["method"] == METHOD_OF[number["setting"]]) & (results["k"] == k)].iloc[0]
    command = f".venv/bin/python -m analysis retrieve {place} --task {task}"
    spec = str(hit.get("spec", "base"))  # results of early stores do not say it
    command += f" --method {shlex.quote(spec)}" if spec != "base" else ""
    value, low, high = (100 * float(hit[name]) for name in ("recall", "low", "high"))
    return value, low, high, command


def _statement(entry: dict[str, str], store: Store | None) -> dict[str, object]:
    """A finding of the paper without a printed number. What the store says about it stands as words in the state."""
    found: dict[str, object] = dict.fromkeys(COLUMNS, "")
    found |= dict.fromkeys(("published", "measured", "difference", "low", "high"), np.nan)
    found |= {
        "table": entry["table"],
        "column": entry["what"],
        "source": entry["source"],
        "state": "no published number",
    }
    here = _said(entry["table"], store) if store is not None else ""
    if here and store is not None:
        deck = f".venv/bin/python -m analysis deck --standard --store {shlex.quote(str(store.path))} --out deck.html"
        found |= {"state": f"no published number; here: {here}", "store": store.name, "command": deck}
    return found


def _said(table: str, store: Store) -> str:
    energy = store.concepts["energy"].to_numpy(float)
    if table == "figure2":
        text = store.concepts["modality_score"].to_numpy(float) >= TEXT_FROM
        return f"{100 * energy[text].sum() / max(energy.sum(), 1e-300):.1f} % of the energy in text concepts (score from .65)"
    if table == "figure3":
        half = int((cumulative_energy(energy) < 0.5 - 1e-12).sum()) + 1
        return f"{half:,} of {store.n_concepts:,} concepts hold half of the energy"
    wanted = {"figure4": (("it2i", "it2it"), ("w/o image", "w/o prompt")), "realign": (store.tasks, ("ReAlign",))}
    tasks, methods = wanted.get(table, ((), ()))
    words = []
    for task in (task for task in tasks if task in store.tasks and store.has(f"retrieval/{task}/results.parquet")):
        rows = store.results(task)
        for method in methods:
            hit = rows[(rows["method"] == method) & (rows["k"] == 10)]
            if len(hit):
                delta, low, high = (
                    100 * float(hit[name].iloc[0]) for name in ("difference", "difference_low", "difference_high")
                )
                words.append(f"{task} {method} R@10 {delta:+.1f} [{low:+.1f}, {high:+.1f}]")
    return "; ".join(words)


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """What a reader sees: two columns for published and measured, the difference with its interval in one cell."""

    def number(value: float, digits: int, sign: str = "") -> str:
        return "" if np.isnan(value) else f"{value:{sign}.{digits}f}"

    rows = []
    for row in table.itertuples():
        digits = 4 if row.table == "table1" else 2
        change = number(row.difference, digits, "+")
        if change and not np.isnan(row.low):
            change += f" [{number(row.low, digits, '+')}, {number(row.high, digits, '+')}]"
        rows.append([row.table, row.model, row.setting, row.dataset, row.column, number(row.published, digits),
                     number(row.measured, digits), change, row.state])  # fmt: skip
    names = ["table", "model", "setting", "data", "number", "published", "measured", "difference", "state"]
    return pd.DataFrame(rows, columns=names)


def _markdown(shown: pd.DataFrame, table: pd.DataFrame) -> str:
    cells = [[str(value).replace("|", "\\|") for value in row] for row in shown.itertuples(index=False)]
    lines = [f"| {' | '.join(shown.columns)} |", "|---" * len(shown.columns) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in cells]
    commands = [text for text in dict.fromkeys(table["command"]) if text]
    return "\n".join([*lines, "", f"Published: {paper()['cite']}", "", "```sh", *commands, "```"])


def _latex(shown: pd.DataFrame) -> str:
    def escaped(value: object) -> str:
        return "".join(_TEX.get(letter, letter) for letter in str(value))

    numbers = shown[shown["published"] != ""]
    out = io.StringIO()
    out.write("% needs \\usepackage{booktabs,longtable}\n\\begin{longtable}{llllrrrp{.25\\linewidth}}\n\\toprule\n")
    names = [name for name in shown.columns if name != "table"]
    out.write(f"{' & '.join(names)} \\\\\n")
    for table, rows in numbers.groupby("table", sort=False):
        out.write(f"\\midrule\n\\multicolumn{{{len(names)}}}{{l}}{{Table {str(table)[-1]}}} \\\\\n")
        for row in rows[names].itertuples(index=False):
            out.write(f"{' & '.join(escaped(value) for value in row)} \\\\\n")
    out.write("\\bottomrule\n\\end{longtable}\n")
    return out.getvalue()


def _opened(cache: str | Path) -> list[Store]:
    return [open_store(ref.path) for ref in find_stores(cache) if ref.ok]
