"""What is kept between reruns: made once, for all who ask, bounded, and never an error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import streamlit as st

from analysis.store import open_store
from pages.components.shared.caching import kept
from tests.synthetic_store import make_store


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What people read while something is made."""
    read: list[str] = []

    @contextmanager
    def spinner(text: str) -> Iterator[None]:
        read.append(text)
        yield

    monkeypatch.setattr(st, "spinner", spinner)
    return read


def together(work: Callable[[], object], people: int) -> list[object]:
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(work())) for _ in range(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_ten_who_ask_at_once_get_the_one_thing_that_is_made(said: list[str]) -> None:
    made = []

    @kept(4, "Making it")
    def slow(number: int) -> object:
        made.append(number)
        until = time.monotonic() + 10
        while len(said) < 10 and time.monotonic() < until:
            time.sleep(0.01)
        return object()

    found = together(lambda: slow(3), people=10)
    assert made == [3]
    assert len(found) == 10
    assert len(set(map(id, found))) == 1
    assert said == ["Making it"] * 10, "nobody waits without a word"
    slow(3)
    assert len(said) == 10, "what is there is handed out without one"


def test_an_error_is_not_kept() -> None:
    tried = []

    @kept(4)
    def fails_once(number: int) -> int:
        tried.append(number)
        if len(tried) == 1:
            raise ValueError("the disk was full")
        return number

    with pytest.raises(ValueError, match="full"):
        fails_once(1)
    assert [fails_once(1), fails_once(1)] == [1, 1]
    assert len(tried) == 2


def test_the_least_used_goes_first() -> None:
    made = []

    @kept(2)
    def of(number: int) -> int:
        made.append(number)
        return number

    for number in (1, 2, 1, 3, 1, 2):
        of(number)
    assert made == [1, 2, 3, 2]


def test_people_read_of_the_outermost_work_only(said: list[str]) -> None:
    @kept(2, "Looking closely")
    def inner(number: int) -> int:
        return number

    @kept(2, "Looking")
    def outer(number: int) -> int:
        return inner(number)

    @kept(2)
    def silent(number: int) -> int:
        return inner(number)

    outer(1), silent(2)
    assert said == ["Looking", "Looking closely"]  # what works in silence lets the rest speak


def test_the_first_arguments_can_be_what_tells_apart() -> None:
    @kept(4, by=1)
    def drawn(key: str, draw: Callable[[], str]) -> str:
        return draw()

    assert [drawn("a", lambda: "one"), drawn("a", lambda: "another"), drawn("b", lambda: "two")] == [
        "one",
        "one",
        "two",
    ]


def test_a_store_that_is_opened_again_is_the_same_and_a_rescored_one_is_not(tmp_path: Path) -> None:
    path = make_store(tmp_path)
    made = []

    @kept(4)
    def of(store: object, number: int) -> int:
        made.append(number)
        return number

    first, again, other = (open_store(path) for _ in range(3))
    other.derived = replace(other.derived, folder="another")
    of(first, 1), of(again, 1), of(other, 1)
    assert len(made) == 2
