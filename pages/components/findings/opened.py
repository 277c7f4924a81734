"""One finding as it was pinned, beside what its numbers are now; its note, its place, and the ways back to it."""

from __future__ import annotations

import base64

import pandas as pd
import streamlit as st

from analysis.errors import AnalysisError, StoreError
from analysis.store.finding import Finding
from analysis.store.notebook import edit_finding, finding, hide_finding, move_finding
from pages.components.findings import parts
from pages.components.shared import caching, gallery, pins, safe, state
from pages.components.shared.errors import guard


def show(uid: str, names: list[str]) -> None:
    """names: of all collections."""
    try:
        one = finding(caching.notes_dir(), uid)
    except StoreError as error:
        st.info(safe.sentence(error), icon=":material/search_off:")
        return
    st.subheader(gallery.escape(one.headline, 500) or "Without a title", anchor=False)
    _ways(one, names)
    _then_and_now(one)
    parts.show(one.parts, key=uid)
    if one.picture:
        st.image(
            f"data:image/jpeg;base64,{base64.b64encode(one.picture).decode()}", width=260, alt="Uploaded query",
            caption="The query's picture, kept with its author's consent",
        )  # fmt: skip
    if one.caption:
        st.caption(gallery.escape(one.caption, 2000))
    if one.note:
        st.markdown(f"> {gallery.escape(one.note, 4000)}")
    st.caption(about(one))
    with st.expander("These numbers again", icon=":material/terminal:"):
        if one.command:
            st.code(one.command, language=None, wrap_lines=True)
        if one.python:
            st.code(one.python, language=None)
        for name, digest in one.stores.items():
            st.caption(f"`{name}`, digest `{digest[:16]}`")


def about(one: Finding, *, where: bool = True) -> str:
    """Author, time, tags and, if asked, collection in one line."""
    tags = "".join(f" :gray-badge[{gallery.escape(tag, 50)}]" for tag in one.tags)
    place = f" · {gallery.escape(one.collection, 80)}" if where and one.collection else ""
    return f"{gallery.escape(one.author, 80)} · {when(one)}{place}{tags}"


def when(one: Finding) -> str:
    """2026-11-29T09:30:00+00:00 -> 29 Nov 2026, 09:30 UTC."""
    stamp = pd.to_datetime(one.time, errors="coerce", utc=True)
    return "undated" if pd.isna(stamp) else f"{stamp:%-d %b %Y, %H:%M} UTC"


def live_address(one: Finding) -> tuple[str, dict[str, str]] | None:
    """(page, parameters) of its view in this app, None where it has none."""
    if one.page not in state.PAGES:
        return None
    return one.page, {name: values[-1] for name, values in one.params.items() if values}


def _ways(one: Finding, names: list[str]) -> None:
    """Present, live view, order, edit, put away."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if st.button("Present from here", key="present_from", icon=":material/slideshow:"):
            state.open_page("present", collection=one.collection or None, finding=one.id)
        live = live_address(one)
        if live is not None:
            state.page_link(live[0], "Live view", icon=":material/sensors:", **live[1])
        if one.collection:
            for icon, by, words in (("arrow_upward", -1, "Earlier"), ("arrow_downward", 1, "Later")):
                st.button(
                    words,
                    key=f"move_{words}",
                    icon=f":material/{icon}:",
                    type="tertiary",
                    on_click=_move,
                    args=(one.id, by),
                )
        with st.popover("Edit", icon=":material/edit:", type="tertiary"), st.form(f"edit_{one.id}", border=False):
            title = st.text_area("Title of its slide", value=one.headline, max_chars=500, height=80)
            note = st.text_area("Note", value=one.note, max_chars=4000, height=100)
            tags = st.text_input("Tags", value=", ".join(one.tags), placeholder="Words, with commas between")
            listed = list(dict.fromkeys(["", *names]))
            collection = st.selectbox(
                "Collection", listed, index=listed.index(one.collection) if one.collection in listed else 0,
                format_func=lambda name: name or "none", accept_new_options=True,
            )  # fmt: skip
            if st.form_submit_button("Keep", icon=":material/check:"):
                _edit(one, title, note, tags, collection or "")
        st.button(
            "Put away", key="put_away", icon=":material/delete:", type="tertiary", on_click=_hide, args=(one.id,),
            help="Takes it off this page; nothing is deleted, and it can be brought back at once.",
        )  # fmt: skip


def _then_and_now(one: Finding) -> None:
    """What the same measurement gives on the stores of now."""
    from analysis.report.live import measured_now, then_and_now

    if not one.stores:
        return
    sources = pins.PageSources()
    with guard("The comparison with now", stop=False), st.spinner("Measuring it again", show_time=True):
        words = then_and_now(one, sources)
        if words:
            st.warning(gallery.escape(words, 900), icon=":material/history:")
        else:
            st.markdown(":green-badge[:material/check: the same now]" if one.measure else ":green-badge[same store]")
        if not one.measure or not one.facts:
            return
        try:
            live = measured_now(one, sources)
        except AnalysisError:
            live = None
        now = live.facts if live is not None and set(live.stores) == set(one.stores) else {}
        rows = [
            {"measured": name, "then": _number(value), "now": _number(now.get(name))}
            for name, value in one.facts.items()
        ]
        with st.expander("Then and now", expanded=bool(words and now)):
            st.dataframe(
                pd.DataFrame(rows), hide_index=True, height="content", alt="Numbers then and now",
                column_config={name: st.column_config.TextColumn(alignment="right", width=110) for name in ("then", "now")},
            )  # fmt: skip


def _number(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, int | float) else "–"


def _move(uid: str, by: int) -> None:
    with guard("The order", stop=False):
        move_finding(caching.notes_dir(), uid, by)


def _hide(uid: str) -> None:
    with guard("Putting it away", stop=False):
        hide_finding(caching.notes_dir(), uid)
        st.session_state["_put_away"] = uid
        state.put(state.FINDING, None)


def _edit(one: Finding, title: str, note: str, tags: str, collection: str) -> None:
    changed = " ".join(title.split()) != " ".join(one.headline.split())
    words = {"title": title, "sentence": ""} if changed else {}
    with guard("The change", stop=False):
        edit_finding(
            caching.notes_dir(), one.id, note=note, tags=tuple(tags.split(",")), collection=collection, **words
        )
        st.rerun()
