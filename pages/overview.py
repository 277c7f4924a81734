"""Overview."""

from pages.components import layout, pickers
from pages.components.errors import guard

with guard():
    layout.header("overview", "Why do generative giants retrieve badly?", "x")
    with layout.controls("overview") as row:
        chosen = pickers.stores()
        pickers.share()
        pickers.reduction()
    for store in chosen:
        layout.store_line(store)
