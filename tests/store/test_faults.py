"""After any fault: `verify` finds every flipped bit and names the file, whatever stands in a manifest is one sentence, garbage
of the right size is named, what is published was on the disk first, and maps of files end with the store."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from analysis.store import find_stores, open_store, verify
from pages.components.shared.state import PAGES
from tests.pages.opening import open_page, sentences, words
from tests.store.tamper import _seal, copy_of
from tests.synthetic_store import make_store

ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    1e308,
    2**70,
    "",
    "x" * 10_000,
    "../../etc/passwd",
    [],
    [None],
    {},
    {"a": None},
    [[1]],
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("cache"), backbone="clip-mini", tokens=True, n_pairs=12)


@pytest.fixture
def copy(path: Path, tmp_path: Path) -> Path:
    return copy_of(path, tmp_path / "cache")


@pytest.mark.slow
def test_every_flipped_bit_is_found_and_the_file_is_named(copy: Path) -> None:
    rng, count = np.random.default_rng(200), 200
    cache = copy.parents[1]
    files = sorted(
        p
        for p in (*copy.rglob("*"), *(cache / "sae").rglob("*"), *(cache / "thumbs").rglob("*"))
        if p.is_file() and p.stat().st_size
    )
    manifests = [file for file in files if file.name in ("manifest.json", "derived.json")]
    assert verify(copy).ok
    for number in range(count):
        file = manifests[number % len(manifests)] if number < count // 4 else files[int(rng.integers(len(files)))]
        data = bytearray(file.read_bytes())
        place, bit = int(rng.integers(len(data))), int(rng.integers(8))
        data[place] ^= 1 << bit
        file.write_bytes(data)
        report = verify(copy)
        where = (file.relative_to(cache).as_posix(), place, bit)
        assert not report.ok, where
        named = file.name if "thumbs" not in file.parts else "thumbs"
        assert any(named in problem or file.parent.name in problem for problem in report.problems), (
            where,
            report.problems,
        )
        data[place] ^= 1 << bit
        file.write_bytes(data)
    assert verify(copy).ok


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        found += [place for key, part in value.items() for place in places(part, (*path, key))]
    elif isinstance(value, list):
        found += [place for slot, part in enumerate(value[:1]) for place in places(part, (*path, slot))]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["manifest.json", "derived.json"])
def test_any_type_in_any_field_of_a_manifest_is_a_sentence(copy: Path, name: str) -> None:
    """With a digest that fits, as a forger or another program would write it."""
    text = (copy / name).read_text()
    raw = json.loads(text)
    seen = [place for place in places(raw) if place != ("digest",)]
    files = [place for place in seen if place[0] == "files"]
    for place in [*(p for p in seen if p[0] != "files"), *files[:10]]:
        for odd in ODD[:: 1 if len(place) < 2 else 3]:
            changed = json.loads(text)
            part = changed
            for step in place[:-1]:
                part = part[step]
            part[place[-1]] = odd
            try:
                _seal(copy, name, changed)
            except (ValueError, OverflowError):
                continue  # no JSON
            report = verify(copy)
            assert all("\n" not in problem and len(problem) < 2000 for problem in report.problems)
            for ref in find_stores(copy.parents[1]):
                assert ref.ok or (ref.problem and "\n" not in ref.problem)
    (copy / name).write_text(text)
    assert verify(copy).ok


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ("findings", "present")])  # they show no store
def test_a_store_broken_in_any_way_leaves_the_pages_to_the_others(
    page: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = copy_of(path, tmp_path / "cache").parents[1]
    make_store(cache, backbone="qwen2-vl-mini", n_pairs=12)
    text = (next((cache / "clip-mini").iterdir()) / "manifest.json").read_text()
    for slot, (place, odd) in enumerate(
        [
            (("facts",), None), (("facts",), []), (("facts", "quality"), {"all": None}), (("facts", "counts"), {"images": "x"}),
            (("config", "data"), None), (("tasks",), {"i2t": None}), (("tasks",), {"../x": {}}), (("files",), {}),
            (("config", "sae", "n_concepts"), 0), (("config", "backbone", "tap"), {"a": 1}), (("created",), 7),
        ]
    ):  # fmt: skip
        broken = cache / "clip-mini" / f"broken-{slot:012d}"
        copy_of_one(next(p for p in (cache / "clip-mini").iterdir() if not p.name.startswith("broken")), broken)
        raw = json.loads(text)
        part = raw
        for step in place[:-1]:
            part = part[step]
        part[place[-1]] = odd
        _seal(broken, "manifest.json", raw)
    for slot, junk in enumerate((b"", b"{", b"[]", b"null", b'{"schema": 99}', b"\xff\xfe", b"[" * 100_000)):
        broken = cache / "clip-mini" / f"junk-{slot:012d}"
        broken.mkdir()
        (broken / "manifest.json").write_bytes(junk)
    app = open_page(page, cache, monkeypatch)
    assert not any("could not be shown" in text for text in sentences(app)), sentences(app)
    assert page == "stores" or "synthetic" in words(app)  # the sound one
    if page != "stores":
        assert not app.error


def copy_of_one(store: Path, target: Path) -> None:
    import shutil

    shutil.copytree(store, target)


USED = {
    "embeddings/mean.npy": "retrieval_lab", "codes/indices.npy": "live_query", "postings/rows.npy": "concept",
    "postings/offsets.npy": "concept", "neighbours.npy": "concept", "retrieval/t2i/queries.npy": "retrieval_lab",
    "retrieval/t2i/qrels.npy": "retrieval_lab", "retrieval/t2i/candidates.npy": "live_query", "postings/values.npy": "concept",
}  # fmt: skip


@pytest.mark.parametrize("name", USED)
def test_garbage_of_the_right_size_is_named_with_what_to_do(
    name: str, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = copy / name
    if not file.exists():
        file = open_store(copy).file_path(name)
    data = file.read_bytes()
    file.write_bytes(data[:128] + b"\xff" * (len(data) - 128))
    app = open_page(USED[name], copy.parents[1], monkeypatch, task="t2i", source="data", section="More like this")
    said = " ".join(sentences(app)) + words(app)
    assert "could not be shown" not in said
    if name != "codes/indices.npy":  # no page reads it
        assert name in said
        assert "copy the store again" in said or "computes it again" in said
    assert any(Path(name).name in problem for problem in verify(copy).problems)


def test_what_is_published_was_on_the_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call that writes to the disk, in order: each file and folder of a store is synced before the rename that publishes
    it, and the name itself afterwards."""
    calls: list[tuple[str, str]] = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        calls.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        real_sync(descriptor)

    def replace(source: Any, target: Any, **options: Any) -> None:
        calls.append(("rename", f"{source} -> {target}"))
        real_replace(source, target, **options)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(Path, "rename", Path.rename)
    path = make_store(tmp_path, n_pairs=6)
    published = next(
        slot for slot, (kind, what) in enumerate(calls) if kind == "rename" and what.endswith(f"-> {path}")
    )
    source = calls[published][1].split(" -> ")[0]
    before = {what for kind, what in calls[:published] if kind == "sync"}
    for file in [path, *path.rglob("*")]:
        assert str(file).replace(str(path), source) in before, file
    assert ("sync", str(path.parent)) in calls[published:]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of three stores whose arrays are large enough to be mapped."""
    cache = tmp_path_factory.mktemp("three")
    for seed in range(3):
        make_store(cache, backbone=f"clip-{seed}", n_pairs=1400, width=128, seed=seed, pictures=False)
    return cache


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts file descriptors in /proc")
def test_maps_end_with_the_store(three: Path) -> None:
    mine = psutil.Process()
    gc.collect()
    start = mine.num_fds()
    stores = [open_store(ref.path) for ref in find_stores(three)]
    held = []
    for store in stores:
        held.append([store.embeddings(variant) for variant in store.variants])
        held.append(store.codes)
        _ = store.postings, store.neighbours
    in_use = mine.num_fds() - start
    assert 5 <= in_use <= 5 * 8
    del store, stores, held
    gc.collect()
    assert mine.num_fds() <= start + 1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts file descriptors in /proc")
def test_pages_of_many_stores_need_few_descriptors(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = psutil.Process()
    start = mine.num_fds()
    for ref in find_stores(three):
        for page in ("concept", "retrieval_lab", "live_query"):
            open_page(page, three, monkeypatch, store=ref.path.parent.name, task="t2i", source="data")
    gc.collect()
    assert mine.num_fds() - start < 40
