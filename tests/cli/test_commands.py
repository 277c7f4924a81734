"""The command line as its users see it: exit codes, one sentence for what goes wrong, numbers of the library."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from analysis.cli import main
from analysis.retrieval.evaluation.evaluate import evaluate
from analysis.retrieval.interventions import BASE, parse
from analysis.retrieval.ranking.passes import Runner
from analysis.retrieval.task import space_from_store
from analysis.store import open_store
from tests.build.folders import GOOD_PAIRS, checkpoint_of, write_task
from tests.data.writers import write_coco_json
from tests.synthetic_store import make_store

COMMANDS = (
    "build", "extract", "train-sae", "encode", "score", "import-sae", "export-sae", "import-embeddings",
    "list", "verify", "rescore", "retrieve", "effects", "concept-effects", "concepts", "name",
    "reproduce", "report", "deck", "notes", "demo", "bench", "query",
)  # fmt: skip
REMOVAL = "removal:attribution,share=0.1,r=2"


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A tiny model, pairs with an it2i task beside them, and a cache."""
    root = tmp_path_factory.mktemp("cli")
    write_coco_json(root / "data", GOOD_PAIRS)
    write_task(root / "data", "i2i", "parquet")
    return {"model": checkpoint_of("clip", root), "data": root / "data", "cache": root / "cache"}


@pytest.fixture(scope="module")
def arguments(world):
    return [
        "--backbone", world["model"], "--dataset", world["data"], "--cache", world["cache"], "--device", "cpu",
        "--concepts", 32, "--top-k", 4, "--sae-steps", 5, "--token-views", 2,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def built(arguments):
    done = run("build", *arguments)
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores"), n_pairs=30)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    done = run(command, "--help")
    assert done.exit_code == 0
    assert done.output.startswith(f"Usage: main {command} ")
    assert set(main.commands) == set(COMMANDS)


def test_build_prints_the_store_last(built, world):
    path = built.output.strip().splitlines()[-1]
    store = open_store(path)
    assert store.tasks == ("i2t", "t2i", "i2i")
    assert str(path).startswith(str(world["cache"]))


def test_every_option_reaches_the_plan(monkeypatch, tmp_path):
    plans = []
    monkeypatch.setattr("analysis.build.build.build", lambda plan, **kwargs: plans.append(plan) or tmp_path)
    given = (
        "--backbone b --dataset d --split s --limit 3 --limit-queries 4 --tasks i2t,it2i --pool global --seed 5 --sae x "
        "--sae-unit token --sae-data e --sae-split t --sae-limit 6 --concepts 7 --top-k 2 --sae-steps 8 --prompts paper "
        "--variants mean,last --device cpu --dtype bfloat16 --revision r --weights w --tap pre_norm "
        "--fusion sum_of_unit_vectors --dummy-image include --embedding-dtype float16 --weighting balanced --token-views 9 "
        "--thumb-side 64 --thumb-quality 50 --shard-size 10 --engine ray --ray-address a --workers 11 --batch-tokens 12"
    )
    done = run("build", *given.split(), "--cache", tmp_path)
    assert done.exit_code == 0, done.output
    plan = plans[0]
    assert vars(plan.data) == {
        "dataset": "d", "split": "s", "limit": 3, "seed": 5, "tasks": ("i2t", "it2i"), "limit_queries": 4, "pool": "global",
    }  # fmt: skip
    assert vars(plan.model) == {
        "backbone": "b", "revision": "r", "device": "cpu", "dtype": "bfloat16", "prompts": "paper",
        "variants": ("mean", "last"), "fusion": "sum_of_unit_vectors", "dummy_image": "include", "batch_tokens": 12,
        "tap": "pre_norm", "weights": "w",
    }  # fmt: skip
    assert (plan.sae.sae, plan.sae.unit, plan.sae.n_concepts, plan.sae.top_k, plan.sae.steps) == ("x", "token", 7, 2, 8)
    assert (plan.sae.data.dataset, plan.sae.data.split, plan.sae.data.limit) == ("e", "t", 6)
    assert (plan.cache, plan.engine, plan.ray_address, plan.workers) == (tmp_path, "ray", "a", 11)
    assert (plan.token_views, plan.thumb_side, plan.thumb_quality, plan.shard_size) == (9, 64, 50, 10)
    assert (plan.embedding_dtype, plan.weighting) == ("float16", "balanced")


def test_list_names_every_store_and_what_is_broken(built, world):
    path = built.output.strip().splitlines()[-1]
    done = run("list", "--cache", world["cache"])
    assert done.exit_code == 0
    assert path in done.output
    assert "12 images, 24 captions, K=32 top_k=4 pooled, tasks i2t t2i i2i" in done.output
    broken = world["cache"] / "tiny-clip" / "data-000000000000"
    broken.mkdir()
    (broken / "manifest.json").write_text("{")
    done = run("list", "--cache", world["cache"])
    assert done.exit_code == 0
    assert f"{broken}  NOT READABLE" in done.output
    (broken / "manifest.json").unlink()
    broken.rmdir()


def test_list_without_stores_says_how_to_make_one(tmp_path):
    done = run("list", "--cache", tmp_path)
    assert done.exit_code == 0
    assert "python -m analysis build" in done.output


def test_verify_passes_a_store_and_fails_an_altered_one(store, tmp_path):
    import shutil

    assert run("verify", store).exit_code == 0
    copy = tmp_path / store.parent.name / store.name
    shutil.copytree(store, copy)
    shutil.copytree(store.parent.parent / "sae", tmp_path / "sae")
    values = np.load(copy / "codes" / "values.npy")
    values[0, 0] += 1
    np.save(copy / "codes" / "values.npy", values)
    done = run("verify", copy)
    assert done.exit_code == 1
    assert "BAD  hashes: altered: codes/values.npy" in done.output
    assert run("verify", tmp_path / "nothing").exit_code == 1


@pytest.mark.parametrize("definition", ["hit", "fraction"])
def test_retrieve_prints_the_numbers_of_the_library(store, definition):
    done = run(
        "retrieve", store, "--task", "i2t", "--method", REMOVAL, "--k", "1,3", "--definition", definition, "--json"
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    expected = evaluate(
        space_from_store(open_store(store), "i2t"), [BASE, parse(REMOVAL)], ks=(1, 3), definition=definition
    )
    rows = pd.DataFrame(found["rows"])
    assert rows["spec"].tolist() == ["base"] * 2 + [parse(REMOVAL).spec] * 2
    for column in ("k", "recall", "low", "high", "difference", "difference_low"):
        np.testing.assert_allclose(rows[column], expected[column], atol=1e-9)
    assert found["queries"] == 30


def test_retrieve_as_text_shows_percent(store):
    done = run("retrieve", store, "--task", "t2i", "--k", "1")
    assert done.exit_code == 0
    expected = evaluate(space_from_store(open_store(store), "t2i"), [BASE], ks=(1,))["recall"].item()
    assert f"{100 * expected:.1f} [" in done.output
    assert "60 queries, 30 candidates" in done.output


def test_a_task_in_blocks_gives_the_same_lines_and_is_gone_on_with(store, tmp_path, monkeypatch):
    asked = ["retrieve", store, "--task", "i2t", "--method", "realign:alpha=0.3", "--method", REMOVAL]
    whole = run(*asked)
    in_blocks = [*asked, "--memory", 0, "--work", tmp_path / "work"]
    kept = Runner._keep

    def killed(self, work, sums, done):
        kept(self, work, sums, done)
        if work.key.startswith("ranks of realign"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Runner, "_keep", killed)
        assert run(*in_blocks).exit_code == 1
    (folder,) = (tmp_path / "work").iterdir()
    assert len(list(folder.glob("*.npz"))) == 4  # ranks of the base, moments of two sides, ranks of ReAlign
    done = run(*in_blocks)
    table = whole.stdout.split("targets", 1)[1]
    assert done.exit_code == 0, done.output
    assert table in done.stdout
    assert list((tmp_path / "work").iterdir()) == []
    assert "in blocks" in run(*in_blocks, "--plan").stdout


def test_retrieve_lists_the_candidates_of_one_query(store):
    done = run("retrieve", store, "--task", "i2t", "--query", 3, "--top", 4, "--method", REMOVAL, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert len(found["before"]) == len(found["after"]) == 4
    opened = open_store(store)
    assert found["sample_id"] == opened.samples["sample_id"].iat[opened.task("i2t").query_rows[3]]
    assert {row["candidate"] for row in found["targets"]} == set(opened.task("i2t").qrels[[3]].indices.tolist())
    for side in ("before", "after"):
        assert found[f"rank_{side}"] == min(row[f"rank_{side}"] for row in found["targets"])


def test_reproduce_states_every_published_number(store):
    done = run("reproduce", "--cache", store.parent.parent, "--json")
    assert done.exit_code == 0
    rows = pd.DataFrame(json.loads(done.output))
    assert len(rows) > 20
    assert rows["published"].notna().sum() > 90  # and statements of the figures, without a printed number
    assert run("reproduce", "--cache", store.parent.parent).exit_code == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--backbone", "qwen2-vl-77"], "Did you mean 'qwen2-vl-7b'"),
        (["--dataset", "nowhere"], "neither a file or folder nor a known dataset"),
        (["--split", "val"], "no split 'val'"),
        (["--tasks", "i2x"], "holds no task i2x"),
        (["--variants", "mean,last"], "and 'mean' is always needed: choose among those"),
        (["--sae", "nowhere.pt"], "There is no SAE at 'nowhere.pt'"),
        (["--device", "cuda:9"], "Device 'cuda:9' does not exist here"),
    ],
)
def test_what_cannot_be_built_exits_with_1_and_one_sentence(arguments, change, sentence):
    done = run("build", *arguments, *change)
    assert done.exit_code == 1
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith("Error: ")
    assert sentence in error
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    "wrong",
    [
        ["build"],
        ["build", "--backbone", "clip-mini", "--dataset", "x", "--limit", "0"],
        ["build", "--backbone", "clip-mini", "--dataset", "x", "--tap", "sideways"],
        ["retrieve", "somewhere"],
        ["retrieve", "somewhere", "--task", "i2t", "--k", "1,five"],
        ["import-sae", "no-such-file.pt", "--backbone", "clip-vit-b32"],
        ["nonsense"],
        ["bench", "nonsense"],
    ],
)
def test_wrong_usage_exits_with_2(wrong):
    done = run(*wrong)
    assert done.exit_code == 2
    assert "Usage: " in done.stderr


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["--task", "it2it"], "has no task 'it2it'; it has i2t, t2i"),
        (["--task", "i2t", "--method", "removel:attribution"], "removal"),
        (["--task", "i2t", "--query", "9999"], "expected 0 to 29"),
    ],
)
def test_what_cannot_be_retrieved_exits_with_1(store, wrong, sentence):
    done = run("retrieve", store, *wrong)
    assert done.exit_code == 1
    assert sentence in done.stderr


def test_import_writes_where_build_finds_it(tmp_path, world):
    from analysis.build.imports import find_sae
    from analysis.sae.checkpoint import Sae, export_overcomplete

    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(64, 512)).astype(np.float32) for _ in range(2)]
    export_overcomplete(Sae(weights[0], np.zeros(64, np.float32), weights[1], 8), tmp_path / "sae_clip.pt")
    done = run("import-sae", tmp_path / "sae_clip.pt", "--backbone", "clip-vit-b32", "--top-k", 8, "--cache", tmp_path)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "sae" / "clip-vit-b32" / "sae_clip")
    assert "BatchTopKSAE" in done.stderr  # which saves the same tensors
    sae, folder = find_sae("sae_clip", "clip-vit-b32", cache=tmp_path, top_k=None)
    assert (sae.n_concepts, sae.width, sae.top_k) == (64, 512, 8)
    assert folder == tmp_path / "sae" / "clip-vit-b32" / "sae_clip"
    back = run("export-sae", folder, tmp_path / "back.pt")
    assert back.exit_code == 0, back.output
    assert "TopKSAE(512, nb_concepts=64, top_k=8)" in back.output
    before, after = (torch.load(tmp_path / name, weights_only=True) for name in ("sae_clip.pt", "back.pt"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    absent = run("export-sae", tmp_path, tmp_path / "none.pt")
    assert absent.exit_code == 1
    assert "No SAE in" in absent.stderr
    wrong = run("import-sae", tmp_path / "sae_clip.pt", "--backbone", "qwen2-vl-7b", "--cache", tmp_path)
    assert wrong.exit_code == 1
    assert "width" in wrong.stderr
    unknown = run("import-sae", tmp_path / "sae_clip.pt", "--backbone", "clip-vit", "--cache", tmp_path)
    assert unknown.exit_code == 1
    assert "Did you mean 'clip-vit-b32'" in unknown.stderr


def test_the_module_runs_and_a_closed_pipe_is_no_error(store):
    """Nobody reads any more when the command prints, at the latest when it ends."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "analysis", "list", "--cache", str(store.parent.parent)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=120, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
