"""Every number that the paper prints, beside the one measured on the chosen store: two columns, never one."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from analysis.report.published import paper, published_note, published_title
from analysis.report.reproduce import MEASURED, OTHER, formatted
from analysis.store import Store
from pages.components.shared import caching, commands, gallery, layout, pickers, pins
from pages.components.shared.errors import guard

TABLES = ("table1", "table2", "table3")
FORMATS = {"md": ("Markdown", "text/markdown"), "csv": ("CSV", "text/csv"), "tex": ("LaTeX", "text/x-tex")}
WIDTHS: dict[str, Any] = {"state": "large", "model": 180}


def main() -> None:
    layout.header("reproduce", "Do the published numbers hold here?")
    with layout.controls("reproduce") as row:
        store = pickers.store()
        table = caching.reproduction(store)
        _downloads(store, table)
        row.command = commands.reproduce(store)
        row.title = f"Published numbers beside those of {store.label}"
    layout.store_line(store)
    st.markdown(sentence(store, table))
    tabs = st.tabs([*(f"Table {name[-1]}" for name in TABLES), "Figures and ReAlign"])
    for tab, name in zip(tabs, TABLES, strict=False):
        with tab, guard("This table", stop=False):
            _published(store, name, table[table["table"] == name])
    with tabs[-1], guard("The statements", stop=False):
        _statements(table[~table["table"].isin(TABLES)])


def sentence(store: Store, table: pd.DataFrame) -> str:
    """How many of the published numbers have one here, and what that one may be compared with."""
    numbers = table[table["published"].notna()]
    same, other = (numbers["state"].str.startswith(word).sum() for word in (MEASURED, OTHER))
    words = (
        f"Of **{len(numbers)}** published numbers, **{same}** are measured on {gallery.escape(store.label)} with the "
    )
    words += f"paper's model and data, **{other}** on another model or other data"
    return f"{words}; **{len(numbers) - same - other}** are not measured, and the state says what is missing."


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """What a reader sees of a table's rows; published and measured stand in columns of their own."""
    digits = 3 if len(table) and table["table"].iat[0] == "table1" else 1
    change = [
        _change(row.difference, row.low, row.high, digits) for row in table[["difference", "low", "high"]].itertuples()
    ]
    return pd.DataFrame({
        "model": table["model"], "setting": table["setting"], "data": table["dataset"], "number": table["column"],
        "published": [_number(value, digits) for value in table["published"]],
        "measured here": [_number(value, digits) for value in table["measured"]],
        "difference [95 %]": change, "state": table["state"].str.removeprefix(f"{OTHER}: "),
    })  # fmt: skip


def _published(store: Store, name: str, table: pd.DataFrame) -> None:
    st.caption(gallery.escape(published_title(name), 400))
    rows = shown(table)
    rows = rows.drop(columns=[column for column in ("setting", "data") if rows[column].nunique() < 2])
    right = {"published", "measured here", "difference [95 %]"}
    st.dataframe(
        rows, hide_index=True, height=470 if len(rows) > 12 else "content", alt=f"Table {name[-1]}, published and measured",
        column_config={
            column: st.column_config.TextColumn(
                alignment="right" if column in right else "left", width=WIDTHS.get(column)
            )
            for column in rows.columns
        },
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center", wrap=False):
        st.caption(gallery.escape(published_note(name), 900), width="stretch")
        pins.button(
            f"reproduce-{name}",
            pins.table(
                lambda: rows.drop(columns="state").head(27),
                pins.Pin(
                    sentence=f"Table {name[-1]} of the paper beside {store.label}",
                    caption="Published: the paper's models and data. Measured: the model and data named here.",
                ),
                command=commands.reproduce(store),
            ),
        )
    asked = [command for command in dict.fromkeys(table["command"]) if command]
    with st.expander(f"Commands behind these numbers ({len(asked)})", icon=":material/terminal:"):
        st.code("\n".join(asked), language=None, wrap_lines=True)


def _statements(table: pd.DataFrame) -> None:
    """What the paper says without a number that could be compared, and what this store says about it."""
    for row in table.itertuples():
        here = str(row.state).partition("here: ")[2]
        with st.container(border=True):
            st.markdown(f"**{gallery.escape(str(row.column), 600)}**")
            st.caption(gallery.escape(str(row.source), 300))
            st.markdown(
                f"Here: {gallery.escape(here, 900)}"
                if here
                else ":gray[Not measured here: the store has nothing about it.]"
            )


def _downloads(store: Store, table: pd.DataFrame) -> None:
    with st.popover("Download", icon=":material/download:", help="The whole table as a file"):
        for kind, (label, mime) in FORMATS.items():
            st.download_button(
                label, partial(formatted, table, kind), f"reproduce-{store.name}.{kind}", mime,
                key=f"reproduce_{kind}", icon=":material/table:", on_click="ignore", width="stretch",
            )  # fmt: skip
        st.caption(f"Published: {gallery.escape(paper()['cite'], 400)}")


def _change(value: float, low: float, high: float, digits: int) -> str:
    if pd.isna(value):
        return ""
    bounds = "" if pd.isna(low) or pd.isna(high) else f" [{low:+.{digits}f}, {high:+.{digits}f}]"
    return f"{value:+.{digits}f}{bounds}".replace("-", "\N{MINUS SIGN}")


def _number(value: float, digits: int) -> str:
    return "–" if pd.isna(value) else f"{value:.{digits}f}"


with guard():
    main()
