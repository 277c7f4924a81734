"""Memory that really runs out: a process that the system denies more is told what to do, and its slot goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.models import tiny
from tests.query.live_store import make_checkpoint

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps to a limit of a process's data")
MB = 1_000_000
# Otherwise glibc keeps what a model has freed, and how much of it fits a later computation is a matter of luck.
EVERY_ARRAY_FROM_THE_SYSTEM = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}

# Runs in a process of its own, memory in MB: limit(room) allows that much beyond what is in use, None lifts the limit.
CHILD = """
import gc, json, resource, sys
from pathlib import Path
import torch
from analysis.errors import AnalysisError
from analysis.query.query import embed_query
from analysis.query.slot import ModelRequest, ModelSlot

torch.set_num_threads(1)
gc.disable()  # what a failure leaves behind must not wait for the collector
small, big = (ModelRequest(folder, "cpu", "float32") for folder in sys.argv[1:3])
hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
slot, said = ModelSlot(), {}

def in_use():
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize() // 1_000_000

def limit(room):
    most = resource.RLIM_INFINITY if room is None else (in_use() + room) * 1_000_000
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))

def attempt(name, request, text="a cat"):
    try:
        with slot.use(request) as backbone:
            query = embed_query(backbone, text=text)
        said[name] = f"{backbone.key}: {len(query.embedding())}"
    except AnalysisError as error:
        said[name] = str(error)
        said[name + ": loaded"] = slot.loaded and slot.loaded.label

attempt("small", small)
limit(int(sys.argv[3]))
attempt("no room for the file", big)
limit(None)
attempt("small again", small)
slot.unload()
before = in_use()
limit(int(sys.argv[4]))
attempt("no room for float32", big)
limit(None)
said["left by what failed"] = in_use() - before
attempt("big", big)
limit(3)
attempt("no room to compute", big, "a cat on a car " * 400)
limit(None)
attempt("big again", big)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 61 MB in bfloat16, twice as much in float32."""
    from safetensors.torch import load_file, save_file

    with pytest.MonkeyPatch.context() as patch:
        sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8, "num_attention_heads": 32}
        patch.setattr(tiny, "LANGUAGE", {**tiny.LANGUAGE, **sizes})
        folder = make_checkpoint(tmp_path_factory.mktemp("models") / "big")
    file = folder / "model.safetensors"
    save_file({name: weight.bfloat16() for name, weight in load_file(file).items()}, file, metadata={"format": "pt"})
    return folder


@pytest.mark.slow
def test_memory_that_runs_out_is_a_sentence_and_the_slot_goes_on(big: Path, checkpoints: dict[str, Path]) -> None:
    size = (big / "model.safetensors").stat().st_size // MB
    arguments = [str(checkpoints["clip"]), str(big), str(size // 2), str(size * 2)]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], cwd=Path(__file__).parents[2], capture_output=True, text=True,
        timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1", **EVERY_ARRAY_FROM_THE_SYSTEM},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    small = "tiny-clip: 32"
    assert said["small"] == said["small again"] == small
    for name in ("no room for the file", "no room for float32"):
        assert said[name] == (
            "big does not fit into the memory of cpu; choose dtype bfloat16, another device or a smaller model."
        )
        assert said[f"{name}: loaded"] is None
    assert said["left by what failed"] < size * 3 // 2  # at most the file, mapped; not also what was read from it
    assert "big ran out of memory on cpu" in said["no room to compute"]
    assert "choose another device" in said["no room to compute"]
    assert said["no room to compute: loaded"] == "big"
    assert said["big"] == said["big again"] == "big: 512"
