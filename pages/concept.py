"""Concept."""

import streamlit as st

from pages.components import layout, pickers, state
from pages.components.errors import guard

with guard():
    with layout.controls("concept") as row:
        store = pickers.store()
        concept = pickers.concept(store)
    st.write(concept)
    state.page_link("concept", "next", store=state.get("store"), concept=concept + 1)
