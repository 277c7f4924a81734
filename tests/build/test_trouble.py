"""What goes wrong while building: kills, full disks, two at once, wrong names. One sentence, and nothing half-written."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from analysis.build.build import build
from analysis.build.plan import SaePlan
from analysis.errors import AnalysisError, BackboneError, CheckpointError, DataError
from analysis.sae.checkpoint import Sae, save_sae
from analysis.store import find_stores, open_store, verify
from tests.build.folders import GOOD_PAIRS, small_plan
from tests.data.writers import write_coco_json

KILLED = """
import os, signal, sys
from pathlib import Path
from analysis.build import shards
from analysis.build.build import build
from tests.build.folders import small_plan

def write_half(path, data, write=shards.write_atomically):
    if "00002" in path.name:
        path.with_name(f".{path.name}.{os.getpid()}.part").write_bytes(data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, data)

shards.write_atomically = write_half
data, model, cache = map(Path, sys.argv[1:])
build(small_plan(data, model, cache), until="extract")
"""


def saved_sae(folder, width, n_concepts=16):
    rng = np.random.default_rng(0)
    dictionary = rng.normal(size=(n_concepts, width)).astype(np.float32)
    save_sae(Sae(dictionary, np.zeros(n_concepts, np.float32), dictionary, 4, {"unit": "pooled"}), folder)
    return folder


def test_a_killed_build_computes_at_most_one_shard_again(checkpoint, coco_folder, tmp_path, monkeypatch):
    arguments = [str(coco_folder), str(checkpoint("clip")), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], capture_output=True, timeout=240, check=False, env={**os.environ}
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    (folder,) = (tmp_path / "work").glob("embeddings-*")
    finished = {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*.npz")}
    assert sorted(finished) == ["shard-00000.npz", "shard-00001.npz"]
    assert list(folder.glob(".*.part"))
    computed = []
    from analysis.build import shards

    compute = shards.extract_shard
    monkeypatch.setattr(
        shards, "extract_shard", lambda job, shard, *a, **k: computed.append(shard) or compute(job, shard, *a, **k)
    )
    store = open_store(build(small_plan(coco_folder, checkpoint("clip"), tmp_path), say=print))
    assert computed == [2, 3]  # the shard under way when it was killed, and the one after it
    assert {name: (folder / name).stat().st_mtime_ns for name in finished} == finished
    assert not list(folder.glob(".*.part"))
    assert verify(store.path).ok


def test_the_second_of_two_builds_at_once_is_refused(checkpoint, coco_folder, tmp_path):
    plan = small_plan(coco_folder, checkpoint("clip"), tmp_path)
    folder = build(plan, until="extract", say=print)
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(AnalysisError, match=r"already embedding.*wait for it"):
            build(plan, say=print)
    assert open_store(build(plan, say=print)).n_samples == 33  # the damaged picture took its two captions along


def test_a_store_under_way_in_another_process_is_refused(checkpoint, coco_folder, tmp_path):
    plan = small_plan(coco_folder, checkpoint("clip"), tmp_path)
    folder = build(plan, until="score", say=print)
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(folder / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(AnalysisError, match="already assembling a store"):
            build(plan, say=print)
        holder.communicate(b"\n", timeout=30)
    assert find_stores(tmp_path) == []
    assert verify(build(plan, say=print)).ok


@pytest.mark.parametrize("at", ["codes/values.npy", "embeddings/last.npy", "results.parquet", "manifest"])
def test_a_full_disk_leaves_no_half_store(checkpoint, coco_folder, tmp_path, monkeypatch, at):
    """Whatever part of the store the disk refuses, nothing of it stays, and the next run completes it."""
    from analysis.build import assemble
    from analysis.store.write import StoreWriter

    def refuse(name):
        if name.endswith(at):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = StoreWriter.path
    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "path", lambda self, name: refuse(name) or path(self, name))
        if at == "manifest":
            patch.setattr(StoreWriter, "_manifests", lambda *args, **kwargs: refuse(at))
            patch.setattr(assemble, "write_results", lambda *args, **kwargs: None)
        plan = small_plan(coco_folder, checkpoint("qwen2_vl"), tmp_path)
        with pytest.raises(AnalysisError, match=r"could not be written \(No space left on device\); free some space"):
            build(plan, say=print)
    assert find_stores(tmp_path) == []
    left = [entry.name for entry in tmp_path.glob("tiny-qwen2_vl/*")]
    assert left == []
    assert verify(build(plan, say=print)).ok


def test_a_disk_that_is_really_full_is_one_sentence(checkpoint, coco_folder, tmp_path):
    """A limit on the size of any file makes the system itself refuse to write."""
    import resource

    plan = small_plan(coco_folder, checkpoint("clip"), tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        with pytest.raises(AnalysisError, match=r"could not be written \(File too large\)"):
            build(plan, until="extract", say=print)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "work").glob("embeddings-*/*shard*"))


def test_what_a_killed_build_left_of_a_store_is_removed(checkpoint, coco_folder, tmp_path, built):
    target = built("clip")
    abandoned = tmp_path / "tiny-clip" / f".{target.name}.0123abcd.tmp"
    abandoned.mkdir(parents=True)
    (abandoned / "part.npy").write_bytes(b"half")
    store = build(small_plan(coco_folder, checkpoint("clip"), tmp_path), say=print)
    assert store.name == target.name
    assert [entry.name for entry in store.parent.iterdir()] == [store.name]


def test_an_sae_of_the_wrong_width_is_refused_before_anything_is_embedded(checkpoint, coco_folder, tmp_path):
    sae = saved_sae(tmp_path / "sae-elsewhere", width=48)
    plan = small_plan(coco_folder, checkpoint("clip"), tmp_path / "cache", sae=SaePlan(str(sae)))
    with pytest.raises(CheckpointError, match=r"reads 48-dimensional vectors, .* gives 32"):
        build(plan, say=print)
    assert not list((tmp_path / "cache").glob("work/embeddings-*"))


def test_the_width_of_a_known_backbone_is_compared_before_data_or_model_are_read(tmp_path):
    sae = saved_sae(tmp_path / "sae-elsewhere", width=48)
    plan = small_plan("no such data", "qwen2-vl-7b", tmp_path / "cache", sae=SaePlan(str(sae)))
    with pytest.raises(CheckpointError, match="reads 48-dimensional vectors, qwen2-vl-7b gives 3584"):
        build(plan, say=print)


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"model": "qwen2-vl-7"}, BackboneError, "Did you mean 'qwen2-vl-7b'"),
        ({"data": "emoji-scene"}, DataError, "neither a file or folder nor a known dataset"),
        ({"split": "val"}, DataError, r"no split 'val'; found test"),
        ({"tasks": ("i2tt",)}, DataError, "holds no task i2tt.*Did you mean 'i2t'"),
        ({"variants": ("meen",)}, AnalysisError, "No pooling variant is called meen"),
        ({"variants": ("last",)}, AnalysisError, "'mean' is always needed"),
        ({"variants": ("mean", "last")}, AnalysisError, "choose among those"),
        ({"tap": "middle"}, AnalysisError, "tap is 'middle'; expected one of post_norm, pre_norm"),
        ({"device": "cuda:7"}, BackboneError, "Device 'cuda:7' does not exist here"),
        ({"sae": SaePlan("no-such-sae")}, CheckpointError, "There is no SAE at 'no-such-sae'"),
    ],
)
def test_wrong_names_are_one_sentence(checkpoint, coco_folder, tmp_path, change, error, sentence):
    given = {"data": coco_folder, "model": checkpoint("clip"), **change}
    with pytest.raises(error, match=sentence) as caught:
        build(small_plan(given.pop("data"), given.pop("model"), tmp_path, **given), say=print)
    assert "\n" not in str(caught.value)
    assert find_stores(tmp_path) == []


def test_limit_is_refused_where_there_are_no_pairs_to_count(checkpoint, tmp_path):
    from tests.build.folders import write_task

    root = write_task(tmp_path, "i2i", "parquet")
    with pytest.raises(DataError, match="use --limit-queries"):
        build(small_plan(root, checkpoint("clip"), tmp_path / "cache", limit=3), say=print)


def test_retrieval_data_without_a_task_are_nothing_to_embed(checkpoint, tmp_path):
    from tests.build.folders import write_task

    root = write_task(tmp_path, "i2i", "parquet")
    with pytest.raises(DataError, match="nothing is left to embed"):
        build(small_plan(root, checkpoint("clip"), tmp_path / "cache", tasks=()), say=print)


def test_data_of_which_nothing_can_be_embedded_is_refused(checkpoint, tmp_path):
    root = tmp_path / "mbeir_toy_task5"
    from tests.data.writers import Item, write_mbeir_parquet

    bad = [Item(name, image=b"not a picture") for name in ("q:0", "c:0")]
    write_mbeir_parquet(root, bad[:1], bad[1:], [("q:0", "c:0")])
    with pytest.raises(DataError, match="None of the 1 samples of mbeir_toy_task5 could be embedded"):
        build(small_plan(root, checkpoint("clip"), tmp_path / "cache"), say=print)


def test_an_sae_from_elsewhere_is_kept_in_the_cache_and_never_replaced(checkpoint, tmp_path):
    write_coco_json(tmp_path / "coco", GOOD_PAIRS[:4])
    first = saved_sae(tmp_path / "a" / "mine", width=32)
    second = saved_sae(tmp_path / "b" / "mine", width=32, n_concepts=20)
    stores = [
        open_store(
            build(small_plan(tmp_path / "coco", checkpoint("clip"), tmp_path / "cache", sae=SaePlan(str(s))), say=print)
        )
        for s in (first, second)
    ]
    assert [store.n_concepts for store in stores] == [16, 20]
    assert all(verify(store.path).ok for store in stores)
    assert len({store.config["sae"]["path"] for store in stores}) == 2
