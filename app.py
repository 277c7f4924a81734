"""The router: page config, logo and navigation. Everything else stands in pages/.

Streamlit executes this file for every visitor and rerun; the server imports it once for `app`.
"""

from pathlib import Path

import streamlit as st

from pages.components.shared.errors import report
from pages.components.shared.memory import settle
from pages.components.shared.state import DEFAULT_PAGE, PAGES, file_of

HERE = Path(__file__).parent

if __name__ == "__main__":
    st.set_page_config(page_title="RetrievalLens", page_icon=str(HERE / "assets/icon.svg"), layout="wide")
    st.logo(str(HERE / "assets/logo.svg"), size="large")
    pages = [
        st.Page(file_of(name), title=page.title, icon=page.icon, help=page.help, default=name == DEFAULT_PAGE)
        for name, page in PAGES.items()
    ]
    try:
        st.navigation(pages, position="top").run()
    finally:
        settle()
else:
    app = st.App(__file__, on_script_error=report)
