"""Concepts."""

from pages.components import gallery, layout, pickers, state
from pages.components.errors import guard

with guard():
    layout.header("concepts", "Which concepts does this model have?")
    with layout.controls("concepts") as row:
        store = pickers.store()
    layout.store_line(store)
    gallery.pictures(store, list(range(0, 30, 3)), values=[1.0] * 10)
    gallery.texts(store, [1, 2, 4, 5], values=[1.0, 0.5, 0.3, 0.2])
    state.page_link("concept", "to concept 3", store=store.path.parent.name, concept=3)
