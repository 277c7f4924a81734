"""What visitors may fill: entries and their rate, parameters of a link, and a hundred thousand labels on a Concept page."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
import streamlit as st
from threadpoolctl import ThreadpoolController

from analysis.errors import StoreError
from analysis.store import notebook, open_store
from analysis.store import notes_database as db
from analysis.store.notebook import Finding, add_finding, add_label, history, label_stamp, labels, labels_since
from pages.components.server import cores, limits
from pages.components.shared import state
from tests.pages.opening import open_page, words
from tests.synthetic_store import make_store


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose concepts have 100,000 labels, most of them by later and later thoughts."""
    folder = tmp_path_factory.mktemp("cache")
    path = make_store(folder, backbone="clip-mini")
    sae = str(open_store(path).config["sae"]["sha256"])[:16]
    add_label(folder / "notes", sae, 1, "one")
    rows = [
        {"sae": sae, "concept": i % 30_000, "text": f"label {i}", "author": "x", "time": "2026-01-01"}
        for i in range(100_000)
    ]  # fmt: skip
    with db.writing(folder / "notes") as connection:
        connection.execute(db.labels.insert(), rows)
    return folder


def test_a_hundred_thousand_labels_leave_the_concept_page_quick(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sae = str(open_store(next((cache / "clip-mini").iterdir())).config["sae"]["sha256"])
    app = open_page("concept", cache, monkeypatch, concept="1")
    assert "label 90001" in words(app)
    taken = []
    for number in range(4):
        add_label(cache / "notes", sae, 1, f"newer {number}")
        start = time.process_time()
        app.run()
        taken.append(time.process_time() - start)
        assert f"newer {number}" in words(app)
    assert min(taken) < 0.3  # of processor time; the first run reads all labels, later ones what is new


def test_labels_since_a_stamp_are_what_a_whole_reading_finds(tmp_path: Path) -> None:
    before = {}
    for concept, text in ((1, "a"), (2, "b"), (1, "c"), (2, ""), (3, "d"), (3, ""), (3, "e")):
        stamp = label_stamp(tmp_path, "f" * 64)
        add_label(tmp_path, "f" * 64, concept, text)
        found = before | labels_since(tmp_path, "f" * 64, stamp)
        before = {key: label for key, label in found.items() if label.text}
        assert before == labels(tmp_path, "f" * 64)


def test_a_database_is_full_at_some_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "MOST_OF_CONCEPT", 3)
    monkeypatch.setattr(notebook, "MOST_LABELS", 5)
    monkeypatch.setattr(notebook, "MOST_FINDINGS", 2)
    for number in range(3):
        add_label(tmp_path, "f" * 64, 1, f"{number}")
    with pytest.raises(StoreError, match="3 labels of this concept"):
        add_label(tmp_path, "f" * 64, 1, "4")
    for concept in (2, 3):
        add_label(tmp_path, "f" * 64, concept, "x")
    with pytest.raises(StoreError, match="5 labels of this SAE"):
        add_label(tmp_path, "f" * 64, 4, "x")
    assert [label.text for label in history(tmp_path, "f" * 64, 1, 2)] == ["2", "1"]
    for _ in range(2):
        add_finding(tmp_path, Finding("overview", "t", {}))
    with pytest.raises(StoreError, match="2 findings"):
        add_finding(tmp_path, Finding("overview", "t", {}))
    with db.reading(tmp_path) as connection:
        assert connection is not None
        assert connection.scalar(sa.select(sa.func.count()).select_from(db.findings)) == 2


def test_a_session_and_all_of_them_write_at_most_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OF_SESSION", 3)
    monkeypatch.setattr(limits, "OF_ALL", 5)
    limits._all.clear()
    sessions: list[dict[str, object]] = [{}, {}]

    def write(who: int) -> None:
        monkeypatch.setattr(st, "session_state", sessions[who])
        limits.writing()

    for _ in range(3):
        write(0)
    with pytest.raises(StoreError, match="More than 3 entries"):
        write(0)
    write(1)
    write(1)
    with pytest.raises(StoreError, match="More than 5 entries"):
        write(1)
    limits._all.clear()


def test_a_pin_keeps_known_parameters_and_bounds_them(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[dict[str, list[str]]] = []
    real = state.view_params
    monkeypatch.setattr(state, "view_params", lambda page: kept.append(real(page)) or kept[-1])
    open_page("concepts", cache, monkeypatch, words="w" * 5000, evil="x" * 100, **{"store ": "y"})
    assert kept
    assert all(set(params) <= state.KNOWN for params in kept)
    assert max(len(value) for params in kept for values in params.values() for value in values) <= state.LONGEST


def test_visitors_share_the_cores_and_one_alone_has_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    blas = [library for library in ThreadpoolController().lib_controllers if library.user_api == "blas"]
    assert blas
    own = [library.num_threads for library in blas]
    monkeypatch.setattr(cores, "_own", {str(library.filepath): (library, 7) for library in blas})
    monkeypatch.setattr(cores, "TURN", 0.0)
    cores._libraries.cache_clear()

    def threads() -> list[int | None]:
        return [library.num_threads for library in blas]

    try:
        with cores.shared():
            assert threads() == [7] * len(blas)
            with cores.shared():
                assert threads() == [1] * len(blas)
                with pytest.raises(ZeroDivisionError), cores.shared():
                    raise ZeroDivisionError
                assert threads() == [1] * len(blas)
            assert threads() == [7] * len(blas)
    finally:
        cores._libraries.cache_clear()
        for library, count in zip(blas, own, strict=True):
            library.set_num_threads(count)


def test_runs_take_turns_in_the_order_of_their_coming_and_a_slow_one_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that waits for ever, then five quick ones: they begin a turn later, one after the other."""
    monkeypatch.setattr(cores, "TURN", 0.3)
    seen: list[tuple[str, float]] = []
    inside, over = [0], threading.Event()

    def slow() -> None:
        with cores.shared():
            seen.append(("slow", max(cores._running.values())))  # when its turn began: this line may come later
            over.wait(30)

    def quick(number: int) -> None:
        with cores.shared():
            seen.append((f"quick {number}", time.monotonic()))
            inside[0] += 1
            assert inside[0] == 1
            time.sleep(0.01)
            inside[0] -= 1

    with ThreadPoolExecutor(6) as pool:
        runs = [pool.submit(slow)]
        try:
            for number in range(5):
                while len(cores._waiting) + len(seen) < number + 1:
                    time.sleep(0.001)
                runs.append(pool.submit(quick, number))
            for run in runs[1:]:
                run.result(timeout=20)
        finally:
            over.set()
        runs[0].result(timeout=20)
    assert [name for name, _ in seen] == ["slow", *(f"quick {number}" for number in range(5))]
    assert 0.3 <= seen[1][1] - seen[0][1] < 5
    assert seen[-1][1] - seen[1][1] < 5
    assert not cores._waiting
    assert not cores._running


def test_a_run_that_fails_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "TURN", 60.0)
    with pytest.raises(ZeroDivisionError), cores.shared():
        raise ZeroDivisionError
    began = time.monotonic()
    with cores.shared():
        assert time.monotonic() - began < 30
