"""`python -m analysis.build.rates`: what each part of a build costs per unit, from which docs/scale.md plans large ones.

Times are processor seconds of one thread, so that other work on the machine moves them little; bytes are what a unit holds,
for postings and ranks the growth of the resident set while they are made. The backbone's own rate is not among them:
`bench extract` measures it on the model and device at hand.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from analysis.bench.measuring import peak_memory_mb
from analysis.build.files import save_blocks
from analysis.sae.checkpoint import Sae
from analysis.sae.codes import Codes

WIDTH, TOP_K = 3584, 50  # Qwen2-VL-7B, the paper's SAEs


@dataclass(frozen=True)
class Rate:
    """Processor seconds and bytes of memory for one unit of work, measured on `n` units."""

    part: str
    unit: str
    n: float
    seconds: float
    bytes: float | None = None


def measure() -> Iterator[Rate]:
    """Every rate, one after another."""
    with tempfile.TemporaryDirectory() as folder:
        yield _pictures()
        yield _pool(Path(folder))
        yield from _samples(Path(folder))
        yield _writing(Path(folder))
        yield _encoding()
        yield _postings()
        yield from _retrieval(Path(folder))


def _pictures(n: int = 40) -> Rate:
    """JPEG of 640 x 480 -> RGB -> 256 px WebP: what a sample with a picture costs beside the model."""
    from PIL import Image

    from analysis.data.pictures import decode, thumbnail_webp

    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).resize(
        (640, 480), Image.Resampling.BICUBIC
    )
    grain = np.clip(np.asarray(coarse, np.int16) + rng.integers(-12, 12, (480, 640, 1)), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(grain).save(stream, "JPEG", quality=90)
    thumb = thumbnail_webp(decode(stream.getvalue()))
    seconds = _processor(lambda: [thumbnail_webp(decode(stream.getvalue())) for _ in range(n)])
    return Rate("decode a picture and make its thumbnail", "picture", n, seconds / n, len(thumb))


def _pool(folder: Path, n: int = 100_000) -> Rate:
    """One pass over a candidate pool as M-BEIR publishes it."""
    from analysis.data.registry import load_retrieval

    write = {
        "cand_pool/global/mbeir_union_test_cand_pool.jsonl": (
            {"txt": f"a candidate of some ten words, number {i}", "img_path": None, "modality": "text", "did": f"9:{i}"}
            for i in range(n)
        ),
        "query/test/mbeir_rates_task1_test.jsonl": [
            {"qid": "9:q", "query_txt": "a query", "query_img_path": None, "query_modality": "text",
             "pos_cand_list": ["9:7"], "neg_cand_list": [], "task_id": 1}
        ],
    }  # fmt: skip
    for name, records in write.items():
        path = folder / name
        path.parent.mkdir(parents=True)
        with path.open("w") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
    query = folder / "query/test/mbeir_rates_task1_test.jsonl"
    seconds = _processor(lambda: load_retrieval(query, pool="global"))
    table: Any = load_retrieval(query, pool="global").candidates
    return Rate(
        "read a candidate pool (jsonl)", "candidate", n, seconds / n, (table.offsets.nbytes + table.bits.nbytes) / n
    )


def _samples(folder: Path, n: int = 100_000) -> Iterator[Rate]:
    """The sample table of a store: made shard by shard, written, read back."""
    from analysis.build.assemble import _columns
    from analysis.data.samples import Sample

    def made() -> pd.DataFrame:
        parts = [
            _columns(
                [Sample(f"mbeir/candidate:9:{i}", "text", f"a candidate of some ten words, number {i}") for i in block]
            )
            for block in np.array_split(np.arange(n), n // 256)
        ]
        return pd.concat(parts, ignore_index=True)

    frame, path = made(), folder / "samples.parquet"
    seconds = _processor(made)
    yield Rate("make the sample table", "sample", n, seconds / n, frame.memory_usage(deep=True).sum() / n)
    frame.to_parquet(path, index=False)
    seconds = _processor(lambda: pd.read_parquet(path))
    yield Rate("open the sample table", "sample", n, seconds / n)


def _writing(folder: Path, n: int = 20_000) -> Rate:
    blocks = [np.zeros((256, WIDTH), np.float32)] * (n // 256)
    size = 256 * len(blocks)
    seconds = _processor(lambda: save_blocks(folder / "h.npy", blocks, (size, WIDTH), "float32"))
    return Rate(f"write embeddings of width {WIDTH}", "vector", size, seconds / size, 4 * WIDTH)


def _encoding(n: int = 512, n_concepts: int = 8192) -> Rate:
    """A quarter of the paper's concepts: the product, which is nearly all of it, grows in proportion."""
    from analysis.bench.synthetic import dictionary
    from analysis.sae.encode import encode

    atoms = dictionary(n_concepts, WIDTH)
    sae = Sae(atoms, np.zeros(n_concepts, np.float32), atoms, TOP_K)
    h = np.random.default_rng(0).normal(size=(n, WIDTH)).astype(np.float32)
    encode(sae, h)  # compiles
    return Rate(f"encode, D {WIDTH}, K {n_concepts}", "vector", n, _processor(lambda: encode(sae, h)) / n, 8 * TOP_K)


def _postings(n: int = 40_000, n_concepts: int = 32768) -> Rate:
    from analysis.concepts.postings import build_postings

    rng = np.random.default_rng(0)
    codes = Codes(
        rng.integers(0, n_concepts, (n, TOP_K), dtype=np.int32), rng.random((n, TOP_K), np.float32), n_concepts
    )
    seconds = _processor(lambda: build_postings(codes))
    return Rate(
        f"postings, top_k {TOP_K}", "vector", n, seconds / n, peak_memory_mb(lambda: build_postings(codes)) * 2**20 / n
    )


def _retrieval(folder: Path, n_queries: int = 1024, n_candidates: int = 8192) -> Iterator[Rate]:
    """Ranks in blocks from a memory map, and the statistics of ReAlign, at the paper's width."""
    from analysis.retrieval.evaluation.lab import Lab
    from analysis.retrieval.interventions import BASE
    from analysis.retrieval.ranking.blocks import BlockRows
    from analysis.retrieval.task import RetrievalSpace

    rng = np.random.default_rng(0)
    path = folder / "c.npy"
    np.save(path, rng.normal(size=(n_candidates, WIDTH)).astype(np.float32))
    candidates = np.load(path, mmap_mode="r")
    queries = rng.normal(size=(n_queries, WIDTH)).astype(np.float32)
    qrels = sp.csr_array(
        (np.ones(n_queries), (np.arange(n_queries), np.arange(n_queries))), shape=(n_queries, n_candidates)
    )
    rows = {"queries": queries, "candidates": candidates}
    space = RetrievalSpace({}, {}, qrels, read_rows=lambda side, variant, at: rows[side][at])
    lab = Lab(space, memory=0)
    lab.measure(BASE)  # compiles
    seconds = _processor(lambda: lab.measure(BASE))
    pairs = n_queries * n_candidates
    peak = peak_memory_mb(lambda: lab.measure(BASE)) * 2**20
    yield Rate(f"rank in blocks, D {WIDTH} (bytes: in all)", "query and candidate", pairs, seconds / pairs, peak)
    side = BlockRows.of(space, "candidates", "mean")
    yield Rate(f"covariance, D {WIDTH}", "candidate", n_candidates, _processor(side.moments) / n_candidates)


def _processor(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _line(rate: Rate) -> str:
    memory = "" if rate.bytes is None else f"{rate.bytes:,.0f}"
    return f"| {rate.part} | {rate.unit} | {rate.n:,.0f} | {1e6 * rate.seconds:.4g} | {memory} |"


if __name__ == "__main__":
    print("| part | unit | measured on | µs of one thread | bytes |\n|---|---|---|---|---|")
    for found in measure():
        print(_line(found), flush=True)
