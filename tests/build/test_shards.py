import errno
import os

import numpy as np
import pytest

from analysis.build.corpus import load_corpus
from analysis.build.files import write_atomically
from analysis.build.plan import DataPlan, ModelPlan
from analysis.build.shards import ShardJob, extract_shard, open_backbone, read_shards, run_local
from analysis.errors import AnalysisError


@pytest.fixture(scope="module")
def backbone(tiny_qwen):
    return open_backbone(ModelPlan(str(tiny_qwen), device="cpu"))


@pytest.fixture(scope="module")
def corpus(coco_folder):
    return load_corpus(DataPlan(str(coco_folder)), "uniform")


def job_in(folder, corpus, size=10):
    return ShardJob(folder, len(corpus.samples), size, ("mean", "last", "mean_no_image"), 64, 80)


def run(job, corpus, backbone):
    run_local(job, corpus, backbone, batch_tokens=None, progress=lambda done, total: None)


def test_shards_cover_every_sample_once(tmp_path, corpus, backbone):
    job = job_in(tmp_path, corpus)
    run(job, corpus, backbone)
    shards = list(read_shards(job))
    assert [s.span for s in shards] == [slice(0, 10), slice(10, 20), slice(20, 30), slice(30, 36)]
    direct = backbone.embed(corpus.samples, variants=("mean",), on_error="skip").vectors["mean"]
    together = np.concatenate([s.vectors["mean"] for s in shards])
    ok = np.concatenate([s.ok for s in shards])
    np.testing.assert_allclose(together[ok], direct[ok], atol=1e-5)


def test_a_damaged_picture_is_a_named_row_not_a_hole(tmp_path, corpus, backbone):
    job = job_in(tmp_path, corpus)
    run(job, corpus, backbone)
    reasons = {
        corpus.samples[s.span.start + row].sample_id: reason
        for s in read_shards(job)
        for row, reason in s.skipped.items()
    }
    assert len(reasons) == 1
    assert "not a picture" in next(iter(reasons.values()))
    assert sum((~s.ok).sum() for s in read_shards(job)) == 1


def test_resume_computes_only_what_is_missing(tmp_path, corpus, backbone, monkeypatch):
    job = job_in(tmp_path, corpus)
    run(job, corpus, backbone)
    before = {shard: job.path(shard).stat().st_mtime_ns for shard in range(len(job))}
    job.path(2).unlink()
    computed = []
    monkeypatch.setattr(
        "analysis.build.shards.extract_shard",
        lambda job, shard, *args, **kwargs: computed.append(shard) or extract_shard(job, shard, *args, **kwargs),
    )
    run(job, corpus, backbone)
    assert computed == [2]
    assert all(job.path(s).stat().st_mtime_ns == before[s] for s in (0, 1, 3))


def test_a_truncated_shard_is_one_sentence(tmp_path, corpus, backbone):
    job = job_in(tmp_path, corpus)
    run(job, corpus, backbone)
    data = job.path(1).read_bytes()
    job.path(1).write_bytes(data[: len(data) // 2])
    with pytest.raises(AnalysisError, match=r"shard-00001.*delete it"):
        list(read_shards(job))


def test_pictures_get_thumbnails_and_texts_none(tmp_path, corpus, backbone):
    job = job_in(tmp_path, corpus)
    run(job, corpus, backbone)
    for shard in read_shards(job):
        for sample, ok, thumb in zip(corpus.samples[shard.span], shard.ok, shard.thumbs, strict=True):
            assert bool(thumb) == (sample.modality == "image" and ok)


def test_a_full_disk_leaves_no_file_and_says_what_to_do(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("analysis.build.files.os.fsync", full)
    with pytest.raises(AnalysisError, match=r"No space left.*free some space"):
        write_atomically(tmp_path / "shard-00000.npz", b"data")
    assert list(tmp_path.iterdir()) == []
