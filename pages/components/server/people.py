"""Who looks, and what they may do: look, write labels and findings, use the model. Without sign-in and without a trusted proxy
everybody who reaches the server may do everything; then it listens on its own machine alone, unless its owner says --open.

Sign-in is Streamlit's own (OIDC, `[auth]` in .streamlit/secrets.toml), or a header that a proxy in front sets
(`server.trustedUserHeaders`, mapped to "email"). $RETRIEVALLENS_ROLES says who may do more than look, e.g.
`write=ann@lab.org,@lab.org; model=ann@lab.org`: addresses, or domains with an @. Without it those who signed in may do all.
"""

from __future__ import annotations

import os
from typing import Literal

import streamlit as st
from streamlit import config

from analysis.errors import AnalysisError
from pages.components.server.doors import is_loopback

OPEN, ROLES = "RETRIEVALLENS_OPEN", "RETRIEVALLENS_ROLES"
Role = Literal["write", "model"]
_WORDS = {"write": "write labels and findings", "model": "use the model"}


class NotAllowed(AnalysisError):
    """Somebody asked for what their role does not include."""


def signs_in() -> bool:
    """Whether visitors sign in by OIDC."""
    try:
        return "auth" in st.secrets
    except FileNotFoundError:
        return False


def by_proxy() -> bool:
    """Whether a proxy in front says who a visitor is."""
    return bool(config.get_option("server.trustedUserHeaders"))


def unguarded() -> str:
    """Why the server may not start as it is configured, "" when it may."""
    address = str(config.get_option("server.address") or "")
    if is_loopback(address) or address.startswith("unix:") or signs_in() or by_proxy() or os.environ.get(OPEN) == "1":
        return ""
    return (
        f"The server would listen on {address or 'every address'}, where others reach it, without knowing who they are; set up "
        f"sign-in or a proxy (README, On a lab server), or say that everybody may come in: {OPEN}=1, `make serve OPEN=1`."
    )


def email() -> str:
    """The visitor's address in small letters, "" where nobody asked for it."""
    return str(getattr(st.user, "email", None) or "").strip().lower()


def enter() -> None:
    """Start of every run: a visitor who has to be known and is not sees the way to sign in, and nothing else."""
    if by_proxy():
        if not email():
            st.error(
                "The proxy in front of this server did not say who you are; ask its owner.", icon=":material/lock:"
            )
            st.stop()
    elif signs_in() and not st.user.is_logged_in:
        st.title("Sign in to look", anchor=False)
        st.button("Sign in", on_click=st.login, icon=":material/login:")
        st.stop()


def may(role: Role) -> bool:
    """Whether the visitor may do more than look."""
    return not (signs_in() or by_proxy()) or allowed(role, email(), os.environ.get(ROLES, ""))


def check(role: Role) -> None:
    """NotAllowed unless the visitor has the role."""
    if not may(role):
        raise NotAllowed(f"You may look at everything here, and not {_WORDS[role]}; ask the server's owner.")


def allowed(role: str, address: str, roles: str) -> bool:
    """Whether an address has a role. roles: the text of $RETRIEVALLENS_ROLES; an empty one gives every role to everybody."""
    if not roles.strip():
        return bool(address)
    for part in roles.split(";"):
        name, _, people = part.partition("=")
        if name.strip() == role:
            named = {person.strip().lower() for person in people.split(",")}
            domain = "@" + address.rpartition("@")[2]
            return bool(address) and (address in named or ("@" in address and domain in named) or "*" in named)
    return False
