"""What is in the cache, whether it is sound, what is missing, and the commands that make it."""

import pandas as pd
import streamlit as st

from analysis.models.specs import BACKBONES
from analysis.store import Store, StoreRef
from pages.components.shared import caching, commands, gallery, inventory, layout, pins, safe, state
from pages.components.shared.errors import guard


def main() -> None:
    layout.header(
        "stores",
        "What is in the cache?",
        "One store holds one model on one data set; it is built once and never changed.",
    )
    with layout.controls("stores") as row:
        refs = caching.stores()
        row.command = commands.stores()
        good = sum(ref.ok for ref in refs)
        st.markdown(
            f"**{good}** of {len(refs)} stores can be opened in `{commands.place(caching.cache_dir())}`",
            width="content",
        )
    if not refs:
        layout.empty_cache(refs)
    opened = open_all(refs)
    listed = inventory.store_table(refs, {ref.path: caching.size(ref) for ref in refs}, opened)
    st.dataframe(
        listed, hide_index=True, height="content",
        column_config={"MB": st.column_config.NumberColumn(format="%.1f"), "store": st.column_config.TextColumn(width=330)}
        | {name: st.column_config.NumberColumn(format="localized") for name in ("samples", "concepts")},
        alt="Stores in the cache",
    )  # fmt: skip
    pin = pins.Pin(sentence=f"{good} of {len(refs)} stores can be opened", command=commands.stores())
    pins.button("stores", pins.table(lambda: listed, pin))
    st.subheader("Each store", anchor=False)
    for ref in refs:
        with guard("This store", stop=False):
            details(ref, opened.get(ref.path))
    with guard("The SAEs", stop=False):
        saes(list(opened.values()))
    with guard("The work folder", stop=False):
        work()
    build_more(refs)


def open_all(refs: list[StoreRef]) -> dict:
    found = {}
    for ref in refs:
        if ref.ok:
            with guard("This store", stop=False):
                found[ref.path] = caching.open_ref(ref)
    return found


def details(ref: StoreRef, store: Store | None) -> None:
    mark = ":green-badge[:material/check: opens]" if store is not None else ":orange-badge[:material/error: problem]"
    with st.expander(
        f"{mark} {gallery.escape(ref.label)}  ·  {gallery.escape(f'{ref.path.parent.name}/{ref.path.name}')}",
        expanded=not ref.ok,
    ):
        if store is None:
            st.error(safe.sentence(ref.problem), icon=":material/error:")
            st.caption("Check it, then copy it again or rebuild it:")
            st.code(commands.verify(ref.path), language=None)
            return
        layout.store_line(store)
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            asked = st.button(
                "Verify", key=f"verify_{ref.path}", icon=":material/verified:", help="Hashes, shapes, invariants"
            )
            st.code(commands.verify(ref.path), language=None, width="content")
            state.page_link("concepts", "Concepts", icon=":material/grid_view:", store=caching.store_id(store))
        if asked:
            report = caching.verified(ref)
            if report.ok:
                st.success(f"All {len(report.checks)} checks passed.", icon=":material/verified:")
            for problem in report.problems:
                st.error(safe.sentence(problem), icon=":material/error:")
        missing = inventory.missing_parts(store)
        if missing:
            st.caption("Built without these parts; each switches one view off:")
            st.table(
                pd.DataFrame([map(safe.sentence, row) for row in missing], columns=["view", "build it with"]).set_index(
                    "view"
                ),
                border="horizontal",
            )
        defects = [str(line) for line in store.facts.get("defects") or []]
        if defects:
            st.caption("Left out while building: " + "; ".join(gallery.escape(line, 120) for line in defects[:10]))


def saes(stores: list[Store]) -> None:
    table = inventory.sae_table(caching.cache_dir(), stores)
    if len(table):
        st.subheader("Sparse autoencoders", anchor=False)
        st.dataframe(
            table, hide_index=True, height="content", column_config={"MB": st.column_config.NumberColumn(format="%.1f")},
            alt="SAEs in the cache",
        )  # fmt: skip


def work() -> None:
    folders = inventory.work_folders(caching.cache_dir())
    if folders:
        st.subheader("Working files of builds", anchor=False)
        st.caption(
            "Embeddings of finished, running and interrupted builds: the same command resumes one, a build with another SAE "
            "takes them as they are. Safe to delete when no build runs."
        )
        st.dataframe(
            pd.DataFrame([{"folder": f"work/{w.name}", "files": w.files, "MB": w.bytes / 1e6} for w in folders]),
            hide_index=True, column_config={"MB": st.column_config.NumberColumn(format="%.1f")}, alt="Work folders",
        )  # fmt: skip


def build_more(refs: list[StoreRef]) -> None:
    """Known models without a store, with the command that makes one."""
    st.subheader("Not built yet", anchor=False)
    there = {ref.backbone for ref in refs}
    rows = [
        {"model": spec.label, "weights": spec.hub_id, "command": commands.build(key, spec.demo)}
        for key, spec in BACKBONES.items()
        if key not in there
    ]
    if rows:
        st.dataframe(
            pd.DataFrame(rows), hide_index=True, height="content", alt="Models without a store",
            column_config={"command": st.column_config.TextColumn(width="large")},
        )  # fmt: skip
    else:
        st.caption("Every known model has a store.")
    st.caption(
        "Your own pictures and captions: give their folder as `--dataset`. A released SAE: "
        "`.venv/bin/python -m analysis import-sae`."
    )


with guard():
    main()
