"""What lives as long as the server is set aside for good; what is thrown away is still found."""

from __future__ import annotations

import gc
import sys
import time
import types
import weakref
from collections.abc import Iterator

import pytest

from pages.components.shared import memory


class Loop:
    """Two objects that hold each other: only the garbage collector frees them."""

    def __init__(self) -> None:
        self.other = [self]


@pytest.fixture(autouse=True)
def unfrozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("_modules", "_added", "_looked"):
        monkeypatch.setattr(memory, name, 0)
    monkeypatch.setattr(memory, "_waiting", None)
    yield
    if memory._waiting is not None:
        memory._waiting.cancel()
    gc.unfreeze()


def test_what_is_imported_is_walked_no_more() -> None:
    memory.set_aside()
    assert gc.get_freeze_count() > 50_000  # the libraries of the app
    assert len(gc.get_objects()) < gc.get_freeze_count() / 10


def test_garbage_of_later_runs_is_collected() -> None:
    memory.set_aside()
    ghost = weakref.ref(Loop())
    gc.collect()
    assert ghost() is None


def test_a_run_without_imports_sets_nothing_aside() -> None:
    memory.set_aside()
    before, kept = gc.get_freeze_count(), [[] for _ in range(1000)]
    memory.set_aside()
    assert len(kept) == 1000
    assert gc.get_freeze_count() <= before


def test_what_visitors_leave_is_set_aside_soon_and_found_when_all_is_looked_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory.set_aside()
    held = Loop()
    ghost = weakref.ref(held)
    monkeypatch.setattr(memory, "SOON", 0.0)
    memory.set_aside()
    assert all(each is not held for each in gc.get_objects())
    del held
    monkeypatch.setattr(memory, "LATEST", 0.0)
    memory.set_aside()
    assert ghost() is None


def test_all_is_looked_through_once_nobody_asks_for_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Loop()
    ghost = weakref.ref(held)
    memory.set_aside()
    del held
    monkeypatch.setattr(memory, "PERIOD", 0.0)
    monkeypatch.setattr(memory, "QUIET", 60.0)
    memory.set_aside()
    first = memory._waiting
    assert first is not None
    monkeypatch.setattr(memory, "QUIET", 0.0)
    memory.set_aside()  # the next page comes before the minute is over
    assert first.finished.is_set()
    assert memory._waiting is not None
    memory._waiting.join()
    assert ghost() is None


def test_what_the_last_run_left_is_looked_through_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Loop()
    ghost = weakref.ref(held)
    memory.set_aside()  # looks through all, and sets it aside
    del held
    monkeypatch.setattr(memory, "PERIOD", 0.2)
    monkeypatch.setattr(memory, "QUIET", 0.0)
    memory.set_aside()  # before it is time to look again
    assert memory._waiting is not None
    memory._waiting.join()
    assert ghost() is None


def test_asking_whether_anything_is_new_costs_nothing() -> None:
    memory.set_aside()
    start = time.process_time()
    for _ in range(1000):
        memory.set_aside()
    assert time.process_time() - start < 0.05


def test_new_modules_are_set_aside_at_once_and_found_when_all_is_looked_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = Loop()
    ghost = weakref.ref(held)
    memory.set_aside()
    fresh = Loop()
    monkeypatch.setitem(sys.modules, "a_library_of_a_page", types.ModuleType("a_library_of_a_page"))
    memory.set_aside()
    assert all(each is not fresh for each in gc.get_objects())
    del held
    gc.collect()
    assert ghost() is not None  # set aside while somebody held it
    memory.look_through()
    assert ghost() is None
