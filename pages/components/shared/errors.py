"""No traceback reaches a visitor: an error of the input is its one sentence, a bug is an apology and a line in the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from analysis.errors import AnalysisError
from pages.components.shared import safe, state

log = logging.getLogger("retrievallens")


@contextmanager
def guard(what: str = "This page", *, stop: bool = True) -> Iterator[None]:
    """Run a page, or with `stop=False` one section of it, and show its failure as one sentence.

    AnalysisError: its message, which says what was found, what was expected and what to do. Anything else is a bug of the
    app: logged with its traceback, shown as a sentence. Streamlit's own stop and rerun pass through.
    """
    try:
        yield
        if stop:
            state.write_link()
    except AnalysisError as error:
        log.info("%s: %s", what, error)
        st.error(safe.sentence(error), icon=":material/error:")
        if stop:
            st.stop()
    except Exception as error:
        log.exception("%s failed", what)
        st.error(
            f"{what} could not be shown ({type(error).__name__}). The details are in the server's log; "
            "other pages keep working.",
            icon=":material/bug_report:",
        )
        if stop:
            st.stop()


def report(error: Exception) -> bool:
    """For errors outside every guard (a widget's callback, the router): logged, one sentence. True: shown, do not repeat."""
    if isinstance(error, AnalysisError):
        st.error(safe.sentence(error), icon=":material/error:")
    else:
        log.error("The app failed", exc_info=error)
        st.error(
            f"Something went wrong ({type(error).__name__}). The details are in the server's log; reload the page.",
            icon=":material/bug_report:",
        )
    return True
