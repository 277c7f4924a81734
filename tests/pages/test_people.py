"""Who may come in and do what: roles, the proxy's word, and that no server listens to strangers without being told so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from streamlit import config

from pages.components.server import people
from tests.pages.opening import open_page
from tests.synthetic_store import make_store

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("role", "address", "roles", "expected"),
    [
        ("write", "ann@lab.org", "", True),
        ("write", "", "", False),
        ("write", "ann@lab.org", "write=ann@lab.org; model=bob@lab.org", True),
        ("model", "ann@lab.org", "write=ann@lab.org; model=bob@lab.org", False),
        ("model", "eve@lab.org", "model= Bob@Lab.org , @lab.org", True),
        ("model", "eve@evil-lab.org", "model=@lab.org", False),
        ("model", "eve@lab.org.evil.example", "model=@lab.org", False),
        ("write", "lab.org", "write=@lab.org", False),
        ("write", "x", "write=*", True),
        ("write", "", "write=*", False),
        ("write", "ann@lab.org", "nonsense", False),
    ],
)
def test_roles_are_given_by_address_or_domain(role: str, address: str, roles: str, expected: bool) -> None:
    assert people.allowed(role, address, roles) is expected


@pytest.mark.parametrize(
    ("address", "proxy", "opened", "starts"),
    [
        ("127.0.0.1", {}, "", True), ("localhost", {}, "", True), ("0.0.0.0", {}, "", False), ("192.168.1.5", {}, "", False),
        ("", {}, "", False), ("0.0.0.0", {"X-Email": "email"}, "", True),
        ("0.0.0.0", {}, "1", True), ("0.0.0.0", {}, "yes", False),
    ],
)  # fmt: skip
def test_no_server_listens_to_strangers_unless_it_knows_them_or_its_owner_says_so(
    monkeypatch: pytest.MonkeyPatch, address: str, proxy: dict[str, str], opened: str, starts: bool
) -> None:
    known = {"server.address": address, "server.trustedUserHeaders": proxy}
    monkeypatch.setattr(config, "get_option", lambda name: known[name])
    monkeypatch.setattr(people, "signs_in", lambda: False)
    monkeypatch.setenv(people.OPEN, opened)
    assert (people.unguarded() == "") is starts


def test_the_app_refuses_to_start_for_strangers() -> None:
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.address", "0.0.0.0", "--server.port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != people.OPEN}
    command += ["--browser.serverAddress", "localhost"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "without knowing who they are" in done.stderr


@pytest.mark.parametrize(("user", "writes"), [("ann@lab.org", True), ("eve@lab.org", False)])
def test_who_may_only_look_keeps_no_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str, writes: bool
) -> None:
    make_store(tmp_path, backbone="clip-mini", n_pairs=12)
    monkeypatch.setattr(people, "by_proxy", lambda: True)
    monkeypatch.setattr(people, "email", lambda: user)
    monkeypatch.setenv(people.ROLES, "write=ann@lab.org; model=ann@lab.org")
    app = open_page("concept", tmp_path, monkeypatch, concept="1")
    label = next(box for box in app.text_input if box.label == "Your label")
    label.set_value("mine")
    next(button for button in app.button if button.label == "Keep").click().run()
    said = " ".join(element.value for element in app.error)
    assert ("You may look at everything here, and not write labels" in said) is not writes
    assert ("mine" in app.title[0].value) is writes
