"""M-BEIR tasks as parquet (hub organisation MRBench): a folder with query-, corpus- and qrels- shards.

Held in memory per row: id, text where the modality has one, and 13 bytes that say where the picture lies; pictures are
read from the shards when decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.data.defects import Defects
from analysis.data.disk import clean_text
from analysis.data.parquet import PictureCell, Shard, find_shards, open_shards
from analysis.data.retrieval import SampleTable, build_retrieval, relate
from analysis.data.samples import Picture, RetrievalSet, Sample
from analysis.data.tasks import IMAGE, MODALITY_OF, TEXT, modality_bits, task_code
from analysis.errors import DataError

SIDES = ("query", "corpus", "qrels")


def is_task_folder(path: Path) -> bool:
    return path.is_dir() and bool(find_shards(path, "query")) and bool(find_shards(path, "corpus"))


def peek_task(path: Path) -> str:
    """The task's code from the modality columns alone where each side has one modality; else from all of the task."""
    sides = []
    for side in ("query", "corpus"):
        shards = open_shards(find_shards(path, side), Defects())
        columns = [s.read(g, ("modality",)) for s in shards if "modality" in s.columns for g in range(s.n_groups)]
        names = {name for table in columns for name in pc.unique(table["modality"]).to_pylist()}
        bits = {modality_bits(name) for name in names}
        sides.append(bits.pop() if len(bits) == 1 else 0)
    if 0 in sides:
        return load_mbeir_parquet(path).task
    return task_code(*sides)


def load_mbeir_parquet(
    path: Path, *, limit_queries: int | None = None, seed: int = 0, check: bool = False
) -> RetrievalSet:
    """The retrieval task of one folder. With `check`, rows whose picture has a bad header are left out and counted.
    Raises DataError where a side is missing or nothing is left."""
    defects = Defects()
    shards = {}
    for side in SIDES:
        shards[side] = open_shards(find_shards(path, side), defects)
        if not shards[side]:
            found = "; ".join(defects.lines()) or f"no {side}-*.parquet"
            raise DataError(f"{path.name} has no readable {side} shard ({found}); expected query, corpus and qrels.")
    queries = _read_side(shards["query"], path.name, "query", check, defects)
    candidates = _read_side(shards["corpus"], path.name, "candidate", check, defects)
    pairs = _relevant_pairs(shards["qrels"])
    wanted_queries, wanted_candidates = zip(*pairs, strict=True) if pairs else ((), ())
    relevance = relate(pairs, queries.rows_of(wanted_queries), candidates.rows_of(wanted_candidates), defects)
    revision = [part for side in SIDES for shard in shards[side] for part in (shard.path.name, shard.footer)]
    return build_retrieval(
        path.name,
        queries,
        candidates,
        relevance,
        numbering="paper",
        defects=defects,
        revision=revision,
        limit_queries=limit_queries,
        seed=seed,
    )


@dataclass(frozen=True)
class ParquetTable(SampleTable):
    """One side, in columns. `place` (n,3) int32: number of the shard, row group, row."""

    name: str
    side: str
    paths: tuple[str, ...]
    ids: pa.Array
    texts: pa.Array
    bits: np.ndarray
    place: np.ndarray

    def sample(self, row: int) -> Sample:
        identifier, bits = self.identifier(row), int(self.bits[row])
        picture = None
        if bits & IMAGE:
            shard, group, position = self.place[row].tolist()
            picture = Picture(read=PictureCell(self.paths[shard], group, position), name=identifier)
        text = clean_text(self.texts[row].as_py()) if bits & TEXT else ""
        return Sample(
            f"{self.name}/{self.side}:{identifier}",
            MODALITY_OF[bits],
            text,
            picture,
            source=f"{self.name} {identifier}",
        )

    def take(self, rows: np.ndarray) -> ParquetTable:
        chosen = pa.array(rows)
        ids, texts = self.ids.take(chosen), self.texts.take(chosen)
        return ParquetTable(self.name, self.side, self.paths, ids, texts, self.bits[rows], self.place[rows])

    def identifier(self, row: int) -> str:
        return self.ids[row].as_py()

    def rows_of(self, identifiers: tuple[str, ...]) -> dict[str, int]:
        """id -> first row that has it, for those of the identifiers that occur."""
        unique = pa.array(dict.fromkeys(identifiers), self.ids.type)
        rows = pc.index_in(unique, value_set=self.ids).to_pylist()
        return {i: row for i, row in zip(unique.to_pylist(), rows, strict=True) if row is not None}


def _read_side(shards: list[Shard], name: str, side: str, check: bool, defects: Defects) -> ParquetTable:
    ids, texts, bits, places = [], [], [], []
    for number, shard in enumerate(shards):
        if "id" not in shard.columns:
            raise DataError(
                f"{shard.path.name} has the columns {', '.join(sorted(shard.columns))}; expected id, modality, "
                "text and image."
            )
        for group in range(shard.n_groups):
            table = shard.read(group, ("id", "modality", "text"))
            n = table.num_rows
            ids.append(_strings(table, "id"))
            text = _strings(table, "text")
            has_text = np.fromiter((bool(clean_text(value)) for value in text.to_pylist()), bool, n)
            present = has_text * TEXT + shard.has_picture(group) * IMAGE
            declared = _declared(table, present)
            bits.append(_modality_bits(declared, present, ids[-1], side, defects))
            texts.append(pc.if_else(pa.array((bits[-1] & TEXT) != 0), text, pa.scalar("", text.type)))
            places.append(np.stack([np.full(n, number), np.full(n, group), np.arange(n)], axis=1).astype(np.int32))
    side_table = ParquetTable(
        name,
        side,
        tuple(str(shard.path) for shard in shards),
        pa.concat_arrays(ids),
        pa.concat_arrays(texts),
        np.concatenate(bits),
        np.concatenate(places),
    )
    _drop_repeated(side_table, defects)
    if check:
        _drop_bad_headers(side_table, defects)
    return side_table


def _modality_bits(declared: np.ndarray, present: np.ndarray, ids: pa.Array, side: str, defects: Defects) -> np.ndarray:
    """Modality bits (n,) int8 of what is both declared and there; what lacks a part is counted."""
    bits = (declared & present).astype(np.int8)
    for part, word in ((TEXT, "text"), (IMAGE, "picture")):
        lacking = np.flatnonzero(declared & ~present & part)
        if lacking.size:
            defects.add(f"{side} without its {word}", ids[int(lacking[0])].as_py(), lacking.size)
    return bits


def _declared(table: pa.Table, present: np.ndarray) -> np.ndarray:
    """Bits of the modality column; where it is absent or says something unknown, what is there counts."""
    if "modality" not in table.column_names:
        return present
    encoded = pc.dictionary_encode(table["modality"].combine_chunks(), null_encoding="encode")
    known = np.array([modality_bits(name) for name in encoded.dictionary.to_pylist()] or [0])
    bits = known[encoded.indices.to_numpy()]
    return np.where(bits == 0, present, bits)


def _strings(table: pa.Table, column: str) -> pa.Array:
    """A column as large_string without chunks or nulls; empty strings where the file has no such column."""
    if column not in table.column_names:
        return pa.array([""] * table.num_rows, pa.large_string())
    chunked = pc.fill_null(table[column].cast(pa.large_string()), "")
    return pa.concat_arrays(chunked.chunks) if chunked.num_chunks else pa.array([], pa.large_string())


def _drop_repeated(table: ParquetTable, defects: Defects) -> None:
    codes = table.ids.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    first = np.zeros(len(codes), bool)
    first[np.unique(codes, return_index=True)[1]] = True
    repeated = np.flatnonzero(~first)
    if repeated.size:
        defects.add(f"duplicate {table.side} id", table.identifier(int(repeated[0])), repeated.size)
        table.bits[repeated] = 0


def _drop_bad_headers(table: ParquetTable, defects: Defects) -> None:
    for row in np.flatnonzero(table.bits & IMAGE).tolist():
        try:
            picture = table.sample(row).picture
            assert picture is not None
            picture.check()
        except DataError as error:
            defects.add(f"{table.side} picture that cannot be opened", f"{table.identifier(row)} ({error})")
            table.bits[row] = 0


def _relevant_pairs(shards: list[Shard]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for shard in shards:
        if not {"query-id", "corpus-id"} <= shard.columns:
            raise DataError(
                f"{shard.path.name} has the columns {', '.join(sorted(shard.columns))}; expected query-id, corpus-id "
                "and score."
            )
        for group in range(shard.n_groups):
            table = shard.read(group, ("query-id", "corpus-id", "score"))
            if "score" in table.column_names:
                table = table.filter(pc.greater(pc.cast(table["score"], pa.float64()), 0))
            pairs += zip(_strings(table, "query-id").to_pylist(), _strings(table, "corpus-id").to_pylist(), strict=True)
    return pairs
