"""The one model of the server: exchanged, shared, freed, waited for."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from analysis.errors import BackboneError
from analysis.models.hub import Told
from analysis.models.weights import count_parameters
from analysis.query import memory as memory_module
from analysis.query.memory import memory_need
from analysis.query.slot import ModelRequest, ModelSlot
from tests.fake_hub import COMMIT, serving_hub, sharded, use_hub

A, B = ModelRequest("a"), ModelRequest("b")


class Fakes:
    """Counts loads and frees; a real backbone has the same five names."""

    def __init__(self, fail: str = "") -> None:
        self.alive: list[str] = []
        self.loads = 0
        self.fail = fail

    def load(self, request: ModelRequest, told: Told | None = None) -> SimpleNamespace:
        if request.name == self.fail:
            raise BackboneError("There is no such model.")
        self.loads += 1
        self.alive.append(request.name)
        return SimpleNamespace(
            spec=SimpleNamespace(label=request.name.upper()), device="cpu", dtype="float32", revision="r",
            unload=lambda: self.alive.remove(request.name),
        )  # fmt: skip


def test_a_second_request_for_the_same_model_does_not_load_again() -> None:
    fakes = Fakes()
    slot = ModelSlot(fakes.load)
    for _ in range(3):
        with slot.use(A) as backbone:
            assert backbone.spec.label == "A"
    assert fakes.loads == 1
    assert slot.loaded is not None
    assert slot.loaded.request == A


def test_another_model_replaces_the_first_and_frees_it() -> None:
    fakes = Fakes()
    slot = ModelSlot(fakes.load)
    with slot.use(A):
        pass
    with slot.use(B):
        assert fakes.alive == ["b"]


def test_unload_frees_once_and_says_whether_there_was_anything() -> None:
    fakes = Fakes()
    slot = ModelSlot(fakes.load)
    with slot.use(A):
        pass
    assert slot.unload()
    assert not slot.unload()
    assert fakes.alive == []
    assert slot.loaded is None


def test_loading_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = iter([1_000, 1_000, 5_000_001_000, 9_000_001_000, 99_000_001_000])
    monkeypatch.setattr(memory_module, "resident_memory", lambda: next(memory))
    monkeypatch.setattr(
        memory_module, "memory_need", lambda request, **_: memory_module.MemoryNeed(10_000_000_000, None, "the CPU")
    )
    done = threading.Event()
    fakes, told = Fakes(), []

    def slowly(request: ModelRequest, told: Told) -> SimpleNamespace:
        assert done.wait(10)
        return fakes.load(request)

    def tell(sentence: str) -> None:
        told.append(sentence)
        if len(told) == 4:
            done.set()

    with ModelSlot(slowly).use(A, tell=tell) as backbone:  # type: ignore[arg-type]
        assert backbone.spec.label == "A"
    assert [sentence.split("about ")[1] for sentence in told] == [
        f"{share} % of 10.0 GB in memory" for share in (0, 50, 90, 99)
    ]
    assert told[0].startswith("Loading a ... 0 s")


def test_a_download_is_told_before_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "resident_memory", lambda: 1_000)
    needs = iter([None, 10_000_000_000])  # known once the weights are here
    monkeypatch.setattr(
        memory_module, "memory_need", lambda request, **_: memory_module.MemoryNeed(next(needs), None, "the CPU")
    )
    steps, fakes, told = threading.Event(), Fakes(), []

    def slowly(request: ModelRequest, arrived: Told) -> SimpleNamespace:
        for done in (0, 500_000_000, 2_000_000_000):
            steps.clear()
            arrived(done, 2_000_000_000)
            assert steps.wait(10)
        return fakes.load(request)

    def tell(sentence: str) -> None:
        told.append(sentence)
        steps.set()

    with ModelSlot(slowly).use(A, tell=tell):
        pass
    assert "Downloading a ... 0.0 kB of 2.0 GB (0 %)" in told
    assert "Downloading a ... 500 MB of 2.0 GB (25 %)" in told
    assert told[-1].startswith("Loading a ... ")
    assert told[-1].endswith("about 0 % of 10.0 GB in memory")


def test_speed_and_time_left_leave_out_what_was_here_before(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 15.0])
    progress = memory_module.LoadProgress(ModelRequest("somebody/model"))
    monkeypatch.setattr(memory_module.time, "perf_counter", lambda: next(clock))
    progress._start = next(clock)
    progress.downloaded(400_000_000, 1_000_000_000)
    progress.downloaded(600_000_000, 1_000_000_000)
    assert progress.sentence() == "Downloading somebody/model ... 600 MB of 1.0 GB (60 %), 20 MB/s, 20 s left"


def test_a_visitor_who_leaves_while_it_loads_leaves_the_model_to_the_next() -> None:
    fakes = Fakes()

    def slowly(request: ModelRequest, told: Told) -> SimpleNamespace:
        time.sleep(0.3)
        return fakes.load(request)

    def leave(sentence: str) -> None:
        raise KeyboardInterrupt

    slot = ModelSlot(slowly)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt), slot.use(A, tell=leave):
        pass
    assert slot.loaded is not None
    with slot.use(A):
        assert fakes.loads == 1


def test_a_failed_load_leaves_the_slot_empty_and_usable() -> None:
    fakes = Fakes(fail="b")
    slot = ModelSlot(fakes.load)
    with slot.use(A):
        pass
    with pytest.raises(BackboneError, match="no such model"), slot.use(B):
        pass
    assert slot.loaded is None
    with slot.use(A):
        pass
    assert fakes.loads == 2


def test_a_failed_load_leaves_nothing_to_the_collector() -> None:
    begun: list[weakref.ref[Fakes]] = []

    def load(request: ModelRequest, told: Told | None = None) -> SimpleNamespace:
        half = Fakes()
        begun.append(weakref.ref(half))
        raise BackboneError("It lacks weights.")

    gc.disable()
    try:
        with suppress(BackboneError), ModelSlot(load).use(A):
            pass
        assert [half() for half in begun] == [None]
    finally:
        gc.enable()


def test_a_second_visitor_waits_with_a_message_and_is_served() -> None:
    slot = ModelSlot(Fakes().load)
    entered, leave = threading.Event(), threading.Event()
    told: list[str] = []
    served: list[str] = []

    def first() -> None:
        with slot.use(A):
            entered.set()
            leave.wait(5)

    def second() -> None:
        with slot.use(B, tell=told.append) as backbone:
            served.append(backbone.spec.label)

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert entered.wait(5)
    threads[1].start()
    time.sleep(0.5)
    assert served == []
    assert any("computing with a" in sentence for sentence in told)
    leave.set()
    for thread in threads:
        thread.join(5)
    assert served == ["B"]


def test_waiting_ends_with_a_sentence() -> None:
    slot = ModelSlot(Fakes().load)
    with (
        slot.use(A),
        pytest.raises(BackboneError, match=r"busy .computing with a. for another visitor"),
        slot.use(B, patience=0.3),
    ):
        pass


def test_many_threads_never_see_two_models_or_a_freed_one() -> None:
    fakes = Fakes()
    slot = ModelSlot(fakes.load)
    wrong: list[object] = []

    def visitor(request: ModelRequest) -> None:
        for _ in range(20):
            with slot.use(request) as backbone:
                if fakes.alive != [request.name] or backbone.spec.label != request.name.upper():
                    wrong.append(list(fakes.alive))

    threads = [threading.Thread(target=visitor, args=(request,)) for request in (A, B, A)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert wrong == []
    assert len(fakes.alive) == 1


def test_memory_is_estimated_before_loading_and_an_unknown_name_is_a_sentence() -> None:
    need = memory_need(ModelRequest("qwen2-vl-7b", "cpu", "bfloat16"))
    assert need.needed == pytest.approx(2 * 8.29e9, rel=0.01)
    assert "GB" in need.sentence
    with pytest.raises(BackboneError, match="No backbone or folder"):
        memory_need(ModelRequest("no such model"))


def test_an_estimate_asks_nobody_and_knows_the_size_once_the_model_is_here(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ModelRequest("somebody/sized", "cpu")
    with serving_hub(sharded(checkpoints["qwen2_vl"], tmp_path / "repository", 2), "somebody/sized") as hub:
        use_hub(monkeypatch, hub.address, tmp_path / "cache")
        before = memory_need(request)
        assert (before.needed, before.asks_hub) == (None, True)
        assert "is not known before its weights are here" in before.sentence
        assert hub.asked == []
        with ModelSlot().use(request) as backbone:
            assert backbone.key == "sized"
        asked = len(hub.asked)
        here = memory_need(replace(request, revision=COMMIT))
        branch = memory_need(request)
        assert len(hub.asked) == asked
    assert here.needed == pytest.approx(count_parameters(checkpoints["qwen2_vl"]) * 4, rel=0.01)
    assert (here.asks_hub, branch.asks_hub) == (False, True)  # a branch may have moved
    assert "comes from the hub" not in here.sentence
    assert "comes from the hub" in branch.sentence
