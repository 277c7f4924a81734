"""`--engine ray` on a real local cluster of two workers, one of which is killed on the way."""

import os
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from analysis.build import cluster
from analysis.build.build import build
from analysis.build.cluster import ShardWorker
from analysis.cli import main
from analysis.data.samples import Sample
from analysis.errors import AnalysisError
from analysis.retrieval.ranking.passes import Runner
from analysis.store import open_store, verify
from tests.build.folders import GOOD_PAIRS, small_plan
from tests.data.writers import write_coco_json
from tests.synthetic_store import make_store

ROOT = Path(__file__).resolve().parents[2]


class DyingWorker(ShardWorker):
    """Computes shards like any worker; the first that reaches shard 2 dies on it as the system would kill it."""

    def run(self, shard: int) -> int:
        grave = self._work.job.folder / "grave"
        if shard == 2 and not grave.exists():
            grave.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(shard)


class FailingWorker:
    def __init__(self, work: cluster.ClusterJob, threads: int) -> None:
        self.threads = threads

    def run(self, shard: int) -> int:
        raise AnalysisError("Sample 'x' cannot be embedded; leave it out.")


@pytest.fixture(scope="module")
def ray_cluster():
    """A cluster of two CPUs, shared by the tests of this file: starting one takes seconds."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: `make cluster` adds it")
    os.environ.update(cluster.ENVIRONMENT)
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=cluster.OBJECT_STORE,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )
    yield ray
    ray.shutdown()


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_a_cluster_gives_the_files_of_the_local_engine_although_a_worker_dies(
    ray_cluster, checkpoint, coco_folder, tmp_path, monkeypatch
):
    options = {"shard_size": 6, "dtype": "float32"}
    model = checkpoint("qwen2_vl")
    local = open_store(build(small_plan(coco_folder, model, tmp_path / "local", **options), say=print))
    monkeypatch.setattr(cluster, "ShardWorker", DyingWorker)
    plan = small_plan(coco_folder, model, tmp_path / "ray", engine="ray", workers=2, **options)
    told = []
    mapped = open_store(build(plan, say=print, progress=lambda step, done, total: told.append((step, done, total))))
    (grave,) = (tmp_path / "ray" / "work").glob("embeddings-*/grave")
    assert grave.read_text()
    assert verify(mapped.path).ok
    assert mapped.name == local.name
    assert mapped.config == local.config
    assert {name: facts.sha256 for name, facts in mapped.manifest.files.items()} == {
        name: facts.sha256 for name, facts in local.manifest.files.items()
    }
    assert [done for step, done, _ in told if step == "extract"][-1] == 36
    assert not list(grave.parent.glob(".*.part"))


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_a_shard_that_cannot_be_computed_is_one_sentence(ray_cluster, checkpoint, tmp_path, monkeypatch):
    write_coco_json(tmp_path / "coco", GOOD_PAIRS[:2])
    monkeypatch.setattr(cluster, "ShardWorker", FailingWorker)
    plan = small_plan(tmp_path / "coco", checkpoint("clip"), tmp_path / "cache", engine="ray", workers=1)
    with pytest.raises(AnalysisError, match="A shard failed on the cluster: Sample 'x' cannot be embedded"):
        build(plan, say=print)
    assert not list((tmp_path / "cache").glob("*/*/manifest.json"))


def test_without_ray_the_engine_says_how_to_get_it(checkpoint, coco_folder, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    plan = small_plan(coco_folder, checkpoint("clip"), tmp_path, engine="ray")
    with pytest.raises(AnalysisError, match=r"run `make cluster`, or use --engine local"):
        build(plan, say=print)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("no cluster at that address"),
        RuntimeError("version mismatch"),
        Exception("The current node timed out during startup."),
    ],
)
def test_a_cluster_that_cannot_be_reached_is_one_sentence(monkeypatch, error):
    ray = pytest.importorskip("ray", reason="Ray is not installed: `make cluster` adds it")

    def refuse(**options):
        raise error

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(AnalysisError, match=r"Ray cluster there:6379 cannot be reached \(.*\); check --ray-address"):
        cluster._start("there:6379")


@pytest.mark.parametrize(
    ("device", "resources", "fit", "gpus"),
    [
        ("auto", {"CPU": 8.0, "GPU": 2.0}, 2, 1),
        ("cpu", {"CPU": 8.0, "GPU": 2.0}, 8, 0),
        ("auto", {"CPU": 3.0}, 3, 0),
        ("cuda:0", {"CPU": 2.0, "GPU": 4.0}, 2, 1),
    ],
)
def test_a_worker_has_a_gpu_of_its_own_where_there_are_any(device, resources, fit, gpus):
    found = cluster._worker_resources(device, resources)
    assert (found["fit"], found["gpus"]) == (fit, gpus)


def test_a_worker_that_finds_other_data_refuses(checkpoint, coco_folder, tmp_path):
    from analysis.build.cluster import ClusterJob
    from analysis.build.corpus import load_corpus
    from analysis.build.extraction import backbone_config
    from analysis.build.shards import ShardJob
    from analysis.models.backbones import load_backbone

    plan = small_plan(coco_folder, checkpoint("clip"), tmp_path)
    corpus = load_corpus(plan.data, "uniform")
    backbone = backbone_config(load_backbone(checkpoint("clip"), device="cpu"))
    job = ShardJob(tmp_path, len(corpus.samples), 10, ("mean",), 48, 80)
    here = os.getcwd()

    def worker(data, model):
        return ShardWorker(ClusterJob(job, plan.data, plan.model, tmp_path, True, Path(here), data, model), threads=1)

    assert worker(corpus.config(plan.data), backbone).run(0) == 0
    with pytest.raises(AnalysisError, match="finds other data"):
        worker({**corpus.config(plan.data), "revision": "other"}, backbone)
    with pytest.raises(AnalysisError, match="dtype float32 instead of bfloat16; give --device, --dtype"):
        worker(corpus.config(plan.data), {**backbone, "dtype": "bfloat16"})
    assert isinstance(corpus.samples[0], Sample)


class DyingOnce:
    """Computes a span like anybody; the first that is asked dies on it as the system would kill it."""

    def __init__(self, grave):
        self.grave = grave

    def __call__(self, span):
        if not self.grave.exists():
            self.grave.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return {"rows": np.arange(*span)}


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_a_cluster_computes_the_spans_of_a_task_in_order_although_a_worker_dies(ray_cluster, tmp_path):
    spans = [(start, start + 7) for start in range(0, 70, 7)]
    with cluster.over_ray(address=None, workers=2) as over:
        parts = list(over(DyingOnce(tmp_path / "grave"), spans))
    assert (tmp_path / "grave").read_text()
    np.testing.assert_array_equal(np.concatenate([part["rows"] for part in parts]), np.arange(70))


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_retrieve_over_a_cluster_prints_the_table_of_one_machine(ray_cluster, tmp_path, monkeypatch):
    store = make_store(tmp_path / "cache")
    monkeypatch.setattr("analysis.cli.task_lab.Runner", partial(Runner, span=9))
    asked = ["retrieve", str(store), "--task", "i2t", "--method", "realign:alpha=0.1+csls:k=4"]
    here, there = (
        CliRunner().invoke(main, [*asked, *more])
        for more in ([], ["--engine", "ray", "--work", str(tmp_path / "work")])
    )
    assert there.exit_code == 0, there.output
    assert there.stdout == here.stdout
