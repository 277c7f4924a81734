"""`python -m analysis query`: what the Live query page shows, without the page."""

from __future__ import annotations

import json
from pathlib import Path

import click

from analysis.cli.options import UserPath, plugin_option, read_picture


def run_query(
    store_path: Path,
    task: str,
    *,
    image: Path | None = None,
    text: str = "",
    mask: str = "",
    method: str = "base",
    device: str = "auto",
    dtype: str | None = None,
    top: int = 10,
    why: str | None = None,
    place: int = 2,
    as_json: bool = False,
) -> str:
    """The ranked candidates of a picture and/or a text, after a mask and an intervention, with their rank before. why:
    instead, what tells the candidate at a place of the list "before" or "after" from the one at its head."""
    from analysis.query.applied import applied, compare
    from analysis.query.compatibility import check_compatible, precision_note, request_for, statistics_note
    from analysis.query.distance import distance_note, usual
    from analysis.query.masks import parse_mask
    from analysis.query.query import embed_query
    from analysis.query.slot import load_request
    from analysis.retrieval.interventions import BASE, parse
    from analysis.retrieval.interventions.fitting import fit
    from analysis.retrieval.task import space_from_store
    from analysis.store import open_store

    store = open_store(store_path)
    facts = store.task(task)
    tokens, intervention = parse_mask(mask), parse(method)
    backbone = load_request(request_for(store, device=device, dtype=dtype))
    query = embed_query(
        backbone, picture=None if image is None else read_picture(image), text=text, prompts=store.config["prompts"],
        task=task, name=image.name if image else "picture",
    )  # fmt: skip
    check_compatible(store, query)
    space = space_from_store(store, task)
    changes = applied(query, space, tokens, intervention)
    base, changed = fit(BASE, space), fit(changes.fitted, space)
    h_before, h_after = query.embedding(), query.embedding(changes.mask)
    ranking = compare(base, changed, h_before, h_after)
    if why == "change":
        from analysis.cli.lab_text import change_tables, printed
        from analysis.retrieval.evaluation.change import explain_live_change

        tables = change_tables(
            lambda pair: explain_live_change(base, changed, ranking, h_before, h_after, pair), ranking, store, space
        )  # fmt: skip
        return printed(tables, as_json)
    if why is not None:
        from analysis.cli.lab_text import explanation_tables, printed
        from analysis.retrieval.evaluation.why import explain_places

        seen = (base, ranking.before, h_before) if why == "before" else (changed, ranking.after, h_after)
        found = explain_places(*seen, place)
        words = (f"number {place}", "number 1")
        return printed(explanation_tables(found, store, space, f"list {why}", words), as_json)
    rows = [
        {
            "rank": place.rank,
            "similarity": round(place.similarity, 6),
            "rank_before": place.other_rank,
            "candidate": place.candidate,
            "sample_id": str(store.samples["sample_id"].iat[int(facts.candidate_rows[place.candidate])]),
            "text": str(store.samples["text"].iat[int(facts.candidate_rows[place.candidate])]),
        }
        for place in ranking.places("after", top)
    ]
    known = [
        precision_note(store, query),
        statistics_note(task, query, changes),
        distance_note(space, usual(space), query),
    ]
    notes = [*query.notes, *filter(None, known)]
    if as_json:
        view = {"store": store.name, "task": task, "mask": tokens.spec, "method": intervention.spec}
        return json.dumps({**view, "notes": notes, "candidates": rows}, indent=1, ensure_ascii=False)
    head = f"{store.label}, {task}, {query.modality} query, {changes.label or 'base'}; rank before in brackets"
    lines = [
        f"{row['rank']:>4} ({row['rank_before']})  {row['similarity']:.4f}  {row['sample_id']}  {row['text']}"
        for row in rows
    ]
    return "\n".join([head, *notes, *lines])


@click.command("query")
@click.argument("store", type=UserPath())
@click.option("--task", required=True, metavar="i2t|t2i|...", help="The task of STORE whose candidates are ranked.")
@click.option("--image", type=UserPath(), default=None, help="A picture.")
@click.option("--text", default="", help="A text; with --image: both together.")
@click.option(
    "--mask",
    default="",
    metavar="ROLES,TOKENS",
    help="Tokens left out of pooling, e.g. instruction,image.4-7 (patches 4 to 7), image.!4-7 (every other patch); last.",
)
@click.option("--method", default="base", show_default=True, metavar="SPEC", help="An intervention, as for `retrieve`.")
@click.option("--device", default="auto", show_default=True)
@click.option("--dtype", default=None, help="float32, bfloat16 or float16; the backbone's own by default.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--why", type=click.Choice(["change", "before", "after"]), default=None,
              help="Instead of the list: which concepts changed it, or tell one of its candidates from the first.")  # fmt: skip
@click.option("--place", type=click.IntRange(min=2), default=2, show_default=True, help="With --why: whose place.")
@plugin_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def query(
    store: Path, task: str, image: Path | None, text: str, mask: str, method: str,
    device: str, dtype: str | None, top: int, why: str | None, place: int, as_json: bool,
) -> None:  # fmt: skip
    """Embed a picture and/or a text with the backbone of STORE and print its ranked candidates."""
    click.echo(
        run_query(store, task, image=image, text=text, mask=mask, method=method, device=device, dtype=dtype, top=top,
                  why=why, place=place, as_json=as_json)
    )  # fmt: skip
