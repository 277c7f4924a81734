"""The router: page config, logo and navigation. Everything else stands in pages/.

Streamlit executes this file for every visitor and rerun; the server imports it once when it starts.
"""

import logging
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Route

from pages.components.server import people
from pages.components.server.doors import Doors
from pages.components.shared.errors import report
from pages.components.shared.memory import settle
from pages.components.shared.state import DEFAULT_PAGE, PAGES

HERE = Path(__file__).parent


def declared() -> list[st.Page]:
    return [
        st.Page(
            page.file,
            title=page.title,
            icon=page.icon,
            url_path=page.url_path,
            help=page.help,
            default=name == DEFAULT_PAGE,
        )
        for name, page in PAGES.items()
        if (HERE / page.file).is_file()
    ]


def to_root(request: Request) -> RedirectResponse:
    """The first page is served at the root only: Streamlit says "Page not found" at the url_path of the default page."""
    query = request.url.query
    return RedirectResponse(f"./?{query}" if query else "./")


if __name__ == "__main__":
    st.set_page_config(page_title="RetrievalLens", page_icon=str(HERE / "assets/icon.svg"), layout="wide")
    st.logo(str(HERE / "assets/logo.svg"), size="large")
    people.enter()
    try:
        st.navigation(declared(), position="top").run()
    finally:
        settle()
else:
    if refusal := people.unguarded():
        raise SystemExit(refusal)
    # Declaring the pages at start keeps Streamlit from discovering pages/ by itself: otherwise the first visitor of a fresh
    # server who comes by a deep link is told that the page does not exist.
    bare = logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context")
    bare.setLevel(logging.ERROR)  # it warns that nobody is looking, which is the point
    st.navigation(declared())
    bare.setLevel(logging.NOTSET)
    root = Route(f"/{PAGES[DEFAULT_PAGE].url_path}", to_root)
    app = st.App(__file__, routes=[root], middleware=[Middleware(Doors)], on_script_error=report)
