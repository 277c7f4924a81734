"""The router: page config, logo and navigation. Everything else stands in pages/.

Streamlit executes this file for every visitor and rerun; the server imports it once, for `app`.
"""

import logging
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Route

from pages.components.server import cores, libraries, people
from pages.components.server.doors import Doors
from pages.components.shared import state
from pages.components.shared.errors import report
from pages.components.shared.memory import set_aside
from pages.components.shared.state import DEFAULT_PAGE, PAGES, file_of

HERE = Path(__file__).parent
RAIL = 224  # pixels of the controls at the left, on the pages that have them there: with more, "Stores" is cut at 1280


def declared() -> list[st.Page]:
    return [
        st.Page(
            file_of(name),
            title=page.title,
            icon=page.icon,
            help=page.help,
            default=name == DEFAULT_PAGE,
            visibility="hidden" if page.hidden else "visible",
        )
        for name, page in PAGES.items()
    ]


def to_root(request: Request) -> RedirectResponse:
    """Streamlit serves the default page at the root only and says "Page not found" at its address."""
    query = request.url.query
    return RedirectResponse(f"./?{query}" if query else "./")


if __name__ == "__main__":
    st.set_page_config(
        page_title="RetrievalLens", page_icon=str(HERE / "assets/icon.svg"), layout="wide", initial_sidebar_state=RAIL
    )
    bare = state.bare()
    if not bare:
        st.logo(str(HERE / "assets/logo.svg"), size="large")
    people.enter()
    libraries.ready()
    try:
        with cores.shared():
            st.navigation(declared(), position="hidden" if bare else "top").run()
    finally:
        set_aside()
else:
    if refusal := people.unguarded():
        raise SystemExit(refusal)
    # Declared at start, or Streamlit takes pages/ for pages of its own: the first visitor of a fresh server who comes by
    # a deep link would see the page under a navigation of file names (tests/e2e/test_deep_link.py).
    warner = logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context")
    warner.setLevel(logging.ERROR)  # it warns that nobody is looking, which is the point
    st.navigation(declared())
    warner.setLevel(logging.NOTSET)
    redirect = Route(f"/{DEFAULT_PAGE}", to_root)
    libraries.begin()
    app = st.App(__file__, routes=[redirect], middleware=[Middleware(Doors)], on_script_error=report)
