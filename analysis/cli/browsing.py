"""concepts: the list of the Concepts page, with its search, filters and order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import pandas as pd

from analysis.cli.options import FiniteRange, UserPath, cache_option, read_picture
from analysis.concepts.browse import ANY, DENSITIES, EFFECTS, NAMED, RELEVANCE, Filters, order, ranks, said_by, select
from analysis.errors import DataError, one_of

if TYPE_CHECKING:
    from analysis.store import Store


def run_concepts(
    store_path: Path, notes: Path, filters: Filters, *, sort: str = "energy", ascending: bool = False,
    sample: int | None = None, text: str = "", image: Path | None = None, only: Sequence[int] | None = None, top: int = 50,
    skip: int = 0, as_json: bool = False, labels_of: str = "",
) -> str:  # fmt: skip
    """The concepts that pass, a line each: id, name, why a search found it, activation on a sample, every score of the table.

    sort: a score, "id", "name" or "relevance" to the words. sample, or text and image: only concepts that fire on this row,
    or on this query, the strongest first. only: of these ids. labels_of: the author whose labels count, everybody's without.
    """
    from analysis.concepts.search import EXAMPLES, build_index, why
    from analysis.store import notebook, open_store

    store = open_store(store_path)
    table, postings = store.concepts, store.postings
    for name in filter(None, (filters.score, "" if sort in ("id", "name", RELEVANCE) else sort)):
        one_of("score", name, [column for column in table.columns if table[column].dtype.kind in "fiu"])
    labels = notebook.labels(notes, str(store.config["sae"]["sha256"]), author=labels_of)
    fits, texts = None, _said(store.samples)
    if filters.words:
        index = build_index(postings.offsets, postings.sample_rows, postings.values, texts, table["name"].astype(str))
        fits = index.search(filters.words, {concept: label.text for concept, label in labels.items()})
    ids = select(table, ranks(table["energy"].to_numpy(float)), filters, None if fits is None else fits > 0)
    ids = order(table, ids, sort, descending=not ascending, relevance=fits)
    shown = pd.DataFrame(index=range(store.n_concepts))
    shown["name"] = [labels[i].text if i in labels else str(name or "") for i, name in enumerate(table["name"])]
    if sample is not None or text or image:
        shown["fires"] = _fires(store, sample, text, image)
        ids = ids[shown["fires"].to_numpy()[ids] > 0]
        ids = ids[np.argsort(-shown["fires"].to_numpy()[ids], kind="stable")]
    ids = ids if only is None else ids[np.isin(ids, list(only))]
    part = shown.iloc[ids[skip : skip + top]].rename_axis("concept").reset_index()
    if filters.words:
        part["why"] = [
            why(filters.words, str(table["name"].iat[i] or ""), labels[i].text if i in labels else "",
                [str(texts[row]) for row in postings.rows(i)[0][:EXAMPLES]])
            for i in map(int, part["concept"])
        ]  # fmt: skip
    for column in table.columns:
        if table[column].dtype.kind == "f" and column not in ("map_x", "map_y"):
            part[column] = table[column].to_numpy()[part["concept"]]
    if as_json:
        return str(part.to_json(orient="records", indent=1))
    head = f"{len(ids):,} of {store.n_concepts:,} concepts of {store.label}"
    return f"{head}; {skip + 1:,} to {skip + len(part):,}\n{part.to_string(index=False)}" if len(part) else head


def _ids(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{str(text)[:40]!r} is not a list of numbers such as 3,14") from error


@click.command()
@click.argument("store", type=UserPath())
@click.option("--search", default="", metavar="WORDS", help="In names, labels and captions.")
@click.option("--sort", default=None, metavar="SCORE", help="A score, id, name or relevance; energy by default.")
@click.option("--ascending", is_flag=True)
@click.option("--modality", type=(float, float), default=(0.0, 1.0), metavar="LOW HIGH", help="0 image, 1 text.")
@click.option("--loudest", type=FiniteRange(0, 100), default=100.0, help="Percent of the dictionary, by energy.")
@click.option(
    "--frequency", type=(float, float), default=(0.0, 100.0), metavar="LOW HIGH", help="Percent of all samples."
)
@click.option("--score", default="", metavar="SCORE", help="Whose percentiles bound the concepts.")
@click.option("--percentile", type=(float, float), default=(0.0, 100.0), metavar="LOW HIGH", help="With --score.")
@click.option("--dead", is_flag=True, help="Also those that are never active.")
@click.option("--named", type=click.Choice(NAMED), default=ANY)
@click.option("--density", type=click.Choice(DENSITIES), default=ANY)
@click.option("--effect", type=click.Choice(EFFECTS), default=ANY)
@click.option(
    "--sample", type=click.IntRange(min=0), default=None, help="Only those that fire on this row of the store."
)
@click.option("--text", default="", help="Only those that fire on a sentence of yours; with --image on both together.")
@click.option("--image", type=UserPath(), default=None, help="Only those that fire on a picture of yours.")
@click.option("--only", default=None, metavar="ID,ID,...", callback=_ids, help="Of these concepts.")
@click.option("--top", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--skip", type=click.IntRange(min=0), default=0, help="Concepts before the first that is printed.")
@click.option("--labels-of", default="", metavar="AUTHOR", help="Labels of one author instead of everybody's.")
@cache_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def concepts(
    store: Path, cache: Path, search: str, sort: str | None, modality: tuple[float, float], loudest: float,
    frequency: tuple[float, float], score: str, percentile: tuple[float, float], dead: bool, named: str, density: str,
    effect: str, **listed: Any,
) -> None:  # fmt: skip
    """The concepts of STORE that pass a search and filters, in an order, with their scores: what the page Concepts lists."""
    filters = Filters(
        modality, loudest, frequency, not dead, search.strip(), score, percentile, named, density, effect
    )  # fmt: skip
    by = sort or (RELEVANCE if filters.words else "energy")
    click.echo(run_concepts(store, cache / "notes", filters, sort=by, **listed))


def _fires(store: Store, sample: int | None, text: str, image: Path | None) -> np.ndarray:
    """(K,) activations on a row of the store, or on a query that the store's model reads."""
    found = np.zeros(store.n_concepts)
    if sample is not None:
        if not 0 <= sample < store.n_samples:
            raise DataError(f"There is no sample {sample}; expected 0 to {store.n_samples - 1}.")
        found[np.asarray(store.codes.indices[sample])] = np.asarray(store.codes.values[sample])
        return found
    from analysis.query.compatibility import request_for
    from analysis.query.concepts import query_concepts
    from analysis.query.query import embed_query
    from analysis.query.slot import load_request

    query = embed_query(
        load_request(request_for(store)), picture=None if image is None else read_picture(image), text=text,
        prompts=str(store.config["prompts"]), name=image.name if image else "picture",
    )  # fmt: skip
    active = query_concepts(store.sae(), query.embedding())
    found[active.ids] = active.values
    return found


def _said(samples: pd.DataFrame) -> np.ndarray:
    """(N,) what each sample says: its text, or the first caption of its picture."""
    from analysis.concepts.examples import TEXT, first_of_pairs, kinds

    pair_id = samples["pair_id"].to_numpy()
    captions = np.flatnonzero(kinds(samples["modality"].to_numpy(), pair_id) == TEXT)
    return said_by(samples["text"].to_numpy(object), pair_id, first_of_pairs(captions, pair_id))
