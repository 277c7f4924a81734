"""`--engine ray`: the shards of an extraction mapped over a Ray cluster, one backbone a worker, and the spans of a pass over
a task that is larger than memory.

Every worker reads the data and the weights itself and writes its shards where the local engine would, so the work folder
must lie on a file system that all machines share. The shard function is the local engine's; a worker that dies is
restarted and its shard computed again."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.build.corpus import Corpus, load_corpus
from analysis.build.extraction import backbone_config
from analysis.build.files import remove_partial
from analysis.build.plan import Config, DataPlan, ModelPlan
from analysis.build.shards import ShardJob, extract_shard, open_backbone
from analysis.errors import AnalysisError, BackboneError, DataError
from analysis.retrieval.ranking.passes import Over, Span, Sums

RESTARTS = 3  # of one worker, and of one shard
OBJECT_STORE = 128 << 20  # bytes of a local cluster's object store; only shard numbers travel
SUMS_STORE = 1 << 30  # of one for passes: queries travel, and a covariance of 103 MB a worker
# Of Ray processes that are started here: nobody is told about them, and a worker may take minutes to start, as it does on
# a busy machine or from a slow file system (Ray's own limit is one minute).
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_register_timeout_seconds": "600"}


@dataclass(frozen=True)
class ClusterJob:
    """What a worker needs to compute any shard of an extraction."""

    job: ShardJob
    data: DataPlan
    model: ModelPlan
    cache: Path
    with_tasks: bool
    root: Path  # relative paths of the plan start here
    corpus: Config  # what the data and the backbone were where the command was given: a worker must find the same
    backbone: Config


class ShardWorker:
    """Holds one backbone and one corpus; computes the shards it is given."""

    def __init__(self, work: ClusterJob, threads: int) -> None:
        import torch

        os.chdir(work.root)
        torch.set_num_threads(threads)  # the same number as the local engine's: sums then agree to the last bit
        self._work = work
        self._corpus: Corpus = load_corpus(work.data, work.model.prompts, cache=work.cache, with_tasks=work.with_tasks)
        if len(self._corpus.samples) != work.job.n_samples or self._corpus.config(work.data) != work.corpus:
            raise DataError(
                f"A worker finds other data under {work.data.dataset} ({len(self._corpus.samples)} samples) than the machine "
                f"that gave the command ({work.job.n_samples}); put them on a file system that all machines share."
            )
        self._backbone = open_backbone(work.model)
        found = backbone_config(self._backbone)
        differs = [
            f"{key} {found[key]} instead of {work.backbone[key]}" for key in found if found[key] != work.backbone[key]
        ]
        if differs:
            raise BackboneError(
                f"A worker runs the backbone otherwise than the machine that gave the command: {', '.join(differs)}; give "
                "--device, --dtype and --revision, so that all machines do the same."
            )

    def run(self, shard: int) -> int:
        job = self._work.job
        if not job.path(shard).is_file():
            samples = self._corpus.samples[job.span(shard)]
            extract_shard(job, shard, samples, self._backbone, batch_tokens=self._work.model.batch_tokens)
        return shard


def run_ray(
    work: ClusterJob, *, address: str | None, workers: int | None, progress: Callable[[int, int], None]
) -> None:
    """Compute the missing shards on a Ray cluster: the one at `address`, or a local one.

    Raises AnalysisError when Ray is not installed, no worker can start, or a shard failed more than RESTARTS times.
    """
    import torch

    job = work.job
    with _cluster(address, "shard") as ray:
        from ray.util import ActorPool

        remove_partial(job.folder)
        missing = job.missing()
        resources = _worker_resources(work.model.device, ray.cluster_resources())
        count = max(1, min(workers or resources["fit"], resources["fit"], len(missing)))  # one more would wait for ever
        actor: Any = ray.remote(
            num_cpus=resources["cpus"], num_gpus=resources["gpus"], max_restarts=RESTARTS, max_task_retries=RESTARTS
        )(ShardWorker)
        pool = ActorPool([actor.remote(work, torch.get_num_threads()) for _ in range(count)])
        done = job.n_samples - sum(job.span(shard).stop - job.span(shard).start for shard in missing)
        progress(done, job.n_samples)
        for shard in pool.map_unordered(lambda worker, shard: worker.run.remote(shard), missing):
            done += job.span(shard).stop - job.span(shard).start
            progress(done, job.n_samples)


@contextmanager
def over_ray(*, address: str | None, workers: int | None) -> Iterator[Over]:
    """How the spans of a pass over a task are computed on a Ray cluster, the one at `address` or a local one: a core each,
    at most `workers` at a time. Every worker opens the store itself, on a file system that all machines share."""
    with _cluster(address, "span", object_store=SUMS_STORE) as ray:
        at_once = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        compute = ray.remote(num_cpus=1, max_retries=RESTARTS)(_called)

        def over(function: Callable[[Span], Sums], spans: Iterable[Span]) -> Iterator[Sums]:
            held = ray.put(function)
            waiting: deque[Any] = deque()
            for span in spans:
                waiting.append(compute.remote(held, span))
                if len(waiting) == at_once:
                    yield ray.get(waiting.popleft())
            while waiting:
                yield ray.get(waiting.popleft())

        yield over


def _called(function: Callable[[Span], Sums], span: Span) -> Sums:
    return function(span)


@contextmanager
def _cluster(address: str | None, unit: str, *, object_store: int = OBJECT_STORE) -> Iterator[Any]:
    """Ray, connected. What goes wrong with one `unit` of the work or with the cluster is one sentence."""
    try:
        import ray
        from ray.exceptions import RayActorError, RayError, RayTaskError, WorkerCrashedError
    except ImportError as error:
        raise AnalysisError("The ray engine needs Ray: run `make cluster`, or use --engine local.") from error
    started_here = not ray.is_initialized()
    if started_here:
        _start(address, object_store)
    try:
        yield ray
    except RayTaskError as error:
        cause = error.cause if isinstance(error.cause, AnalysisError) else None
        raise AnalysisError(f"A {unit} failed on the cluster: {cause or str(error).splitlines()[-1]}") from error
    except (RayActorError, WorkerCrashedError) as error:
        raise AnalysisError(
            f"A worker could not start, or died more than {RESTARTS} times ({_last_line(error)}); look at its machine's "
            f"memory, then run the command again: finished {unit}s are kept."
        ) from error
    except RayError as error:
        raise AnalysisError(f"The Ray cluster failed ({str(error).splitlines()[0]}); run the command again.") from error
    finally:
        if started_here:
            ray.shutdown()


def _start(address: str | None, object_store: int = OBJECT_STORE) -> None:
    """Connect to a cluster, or start one here."""
    import ray

    os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
    local: dict[str, Any] = {} if address else {"include_dashboard": False, "object_store_memory": object_store}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except Exception as error:  # a node that starts too slowly is a bare Exception of Ray's
        raise AnalysisError(
            f"The Ray cluster {address or 'on this machine'} cannot be reached ({_last_line(error)}); check --ray-address, or "
            "use --engine local."
        ) from error


def _last_line(error: Exception) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)


def _worker_resources(device: str, cluster: dict[str, float]) -> dict[str, Any]:
    """What one worker holds, and how many of them the cluster has room for: a GPU each where there are any."""
    cpus, gpus = int(cluster.get("CPU", 1)), int(cluster.get("GPU", 0))
    if device != "cpu" and gpus:
        return {"cpus": 1, "gpus": 1, "fit": max(1, min(cpus, gpus))}
    return {"cpus": 1, "gpus": 0, "fit": max(1, cpus)}
